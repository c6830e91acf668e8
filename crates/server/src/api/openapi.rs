//! `GET /openapi.json`: the API in the words of OpenAPI 3.1, made from the handlers and types here.
//!
//! What all routes have in common, the refusals above all, is added to each in one place.

use super::{Route, answer, clients, groups, publish, revocations, rooms, sessions, stats};
use crate::front::{Answer, Document};
use bytes::Bytes;
use std::sync::LazyLock;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Spec, Ref, ResponseBuilder, ResponsesBuilder};
use utoipa::{Modify, OpenApi};

/// The name of the one security scheme.
const KEY: &str = "key";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Clarion",
        description = "The HTTP API of Clarion, a real-time messaging server. Its words are those of \
            the protocol: spec/protocol.md, section 8.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        publish::publish,
        publish::publish_many,
        publish::broadcast,
        rooms::history,
        rooms::members,
        rooms::rooms,
        clients::clients,
        clients::clients_first,
        sessions::disconnect,
        sessions::kick,
        sessions::join,
        groups::users,
        groups::add,
        groups::remove,
        revocations::revoke,
        revocations::revocations,
        stats::stats,
        super::metrics,
        super::alive,
        super::ready,
        document,
    ),
    components(schemas(Document<'_>, rooms::DeliveredShape)),
    security(("key" = [])),
    tags(
        (name = "publish", description = "Say something."),
        (name = "rooms", description = "What is in them, and who."),
        (name = "sessions", description = "Who is connected, and where they are."),
        (name = "node", description = "How the server is."),
    ),
    modifiers(&Common),
)]
struct Api;

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "node",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object)),
)]
pub(super) fn document() -> Answer {
    /// It is the same each time.
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
        let text = Api::openapi().to_json();
        text.expect("structures of ours can be written").into()
    });
    answer("application/json", TEXT.clone())
}

/// What holds for every route.
struct Common;

impl Modify for Common {
    fn modify(&self, spec: &mut Spec) {
        let components = spec.components.get_or_insert_default();
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme(KEY, scheme);
        for (path, item) in &mut spec.paths.paths {
            refusals(path, item);
            scope(path, item);
        }
    }
}

/// What a route may refuse with: only what it can.
fn refusals(path: &str, item: &mut PathItem) {
    let probe = matches!(path, "/healthz" | "/readyz");
    if let Some(get) = &mut item.get {
        if !probe {
            add(get, &[(400, "A parameter breaks a rule.")]);
        }
        if path == "/v1/members" {
            add(get, &[(404, "The room keeps no list of members: `$all`.")]);
        }
        if path == "/v1/history" {
            add(
                get,
                &[
                    (404, "The room has no log."),
                    (409, "The room has another log: `epoch` and `offset` are its own."),
                ],
            );
        }
        if path != "/healthz" {
            add(get, &[(503, "It cannot be answered now.")]);
        }
    }
    if let Some(post) = &mut item.post {
        add(
            post,
            &[
                (400, "The body breaks a rule; `field` says where."),
                (404, "The protocol has no such command."),
                (408, "The body did not come in time."),
                (413, "The body, or what is published, is larger than `limit`."),
                (415, "The body is something else than plain application/json."),
                (503, "It cannot be done now, or it is unknown whether it was."),
            ],
        );
    }
    if !probe {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            add(
                operation,
                &[
                    (401, "The API key is missing, or nobody's."),
                    (429, "This address or key asks too often, or a user is in too many groups."),
                ],
            );
        }
    }
}

/// What a key needs: "For other security scheme types, the array MAY contain a list of role names
/// which are required for the execution". OpenAPI 3.1, Security Requirement Object.
fn scope(path: &str, item: &mut PathItem) {
    let Some(scope) = Route::find(path).and_then(Route::scope) else { return };
    let scope = scope.as_str();
    for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
        operation.security = Some(vec![SecurityRequirement::new(KEY, [scope])]);
        add(operation, &[(403, "The API key has not the scope of this path.")]);
    }
}

fn add(operation: &mut Operation, refusals: &[(u16, &str)]) {
    let mut responses = ResponsesBuilder::from(std::mem::take(&mut operation.responses));
    for (status, description) in refusals {
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new()
            .description(*description)
            .content("application/problem+json", body);
        responses = responses.response(status.to_string(), response);
    }
    operation.responses = responses.build();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Neither a route that is not in the document, nor the other way round.
    #[test]
    fn the_document_tells_of_every_route_and_its_method() {
        let spec = Api::openapi();
        let told: BTreeSet<_> = spec.paths.paths.iter().map(|(path, _)| path.as_str()).collect();
        let served: BTreeSet<_> = Route::ALL.iter().map(|(path, _)| *path).collect();
        assert_eq!(told, served);
        for (path, item) in &spec.paths.paths {
            let route = Route::find(path).unwrap();
            assert_eq!(
                (item.get.is_some(), item.post.is_some()),
                (!route.writes(), route.writes())
            );
            let operation = item.get.as_ref().or(item.post.as_ref()).unwrap();
            assert!(operation.summary.is_some(), "{path}");
            let refused = operation.responses.responses.contains_key("401");
            assert_eq!(refused, route.scope().is_some(), "{path}");
        }
    }

    #[test]
    fn the_document_says_what_the_limits_are() {
        let spec = serde_json::to_value(Api::openapi()).unwrap();
        let many = &spec["components"]["schemas"]["PublishMany"]["properties"]["publications"];
        assert_eq!(many["maxItems"], publish::PUBLICATIONS_MAX);
        let parameters = spec["paths"]["/v1/clients"]["get"]["parameters"].as_array().unwrap();
        let limit = parameters.iter().find(|parameter| parameter["name"] == "limit").unwrap();
        assert_eq!(limit["schema"]["maximum"], super::super::PAGE_MAX);
    }
}
