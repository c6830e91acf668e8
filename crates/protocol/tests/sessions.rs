//! Checks that the scripted sessions of `spec/vectors/sessions/` are what their README says: steps that
//! runners know, placeholders that are bound before they are sent, and messages that the decoder takes
//! or that are refused in the next step. Running them is for those who have a server or a client.

use std::collections::BTreeSet;

use clarion_protocol::codec::json;
use serde_json::Value;

const VERBS: [&str; 15] = [
    "connect",
    "send",
    "expect",
    "expect_all",
    "expect_run",
    "skip_until",
    "skip_until_close",
    "expect_nothing",
    "expect_close",
    "close",
    "drop",
    "reading",
    "server",
    "wait_ms",
    "repeat",
];

#[test]
fn sessions_are_what_their_readme_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/sessions");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("the sessions") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a file");
        let file: Value = serde_json::from_str(&text).expect("JSON");
        for session in file["sessions"].as_array().expect("sessions") {
            let name = session["name"].as_str().expect("a name");
            assert!(names.insert(name.to_owned()), "{name} is there twice");
            let mut check = Check { name, bound: BTreeSet::new(), connected: BTreeSet::new() };
            check.steps(&session["steps"]);
        }
    }
    assert!(names.len() > 40);
}

struct Check<'a> {
    name: &'a str,
    bound: BTreeSet<String>,
    connected: BTreeSet<String>,
}

impl Check<'_> {
    fn steps(&mut self, steps: &Value) {
        let steps = steps.as_array().expect("steps");
        for (index, step) in steps.iter().enumerate() {
            let verbs: Vec<_> = VERBS.iter().filter(|verb| !step[**verb].is_null()).collect();
            assert_eq!(verbs.len(), 1, "{}: {step}", self.name);
            if let Some(at) = step["at"].as_str() {
                let known = self.connected.contains(at);
                assert!(known || !step["connect"].is_null(), "{}: {at} is not open", self.name);
                self.connected.insert(at.to_owned());
            }
            match *verbs[0] {
                "send" => self.sent(&step["send"], steps.get(index + 1)),
                "repeat" => self.steps(&step["steps"]),
                _ => placeholders(step, &mut |text| {
                    let kind = text.trim_start_matches('<').split([':', '>']).next();
                    let known = [
                        "absent", "string", "integer", "instant", "client", "epoch", "ticket", "n",
                        "text",
                    ];
                    assert!(known.contains(&kind.unwrap_or_default()), "{}: {text}", self.name);
                    self.bound.insert(text.to_owned());
                }),
            }
        }
    }

    fn sent(&self, message: &Value, next: Option<&Value>) {
        placeholders(message, &mut |text| {
            let given = ["<token:", "<text:", "<n>"].iter().any(|given| text.starts_with(given));
            assert!(given || self.bound.contains(text), "{}: {text} is not bound", self.name);
        });
        if let Err(rejected) = json::decode(&message.to_string()) {
            let error = next.map(|next| &next["expect"]);
            let announced = error.is_some_and(|error| {
                error["payload"]["name"] == rejected.refusal.name.as_str()
                    && error["payload"]["field"].as_str() == rejected.refusal.field
            });
            assert!(announced, "{}: {message} is {}", self.name, rejected.refusal);
        }
    }
}

/// Calls `found` with every placeholder in `value`.
fn placeholders(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) if text.starts_with('<') => found(text),
        Value::Array(items) => items.iter().for_each(|item| placeholders(item, found)),
        Value::Object(members) => members.values().for_each(|item| placeholders(item, found)),
        _ => {}
    }
}
