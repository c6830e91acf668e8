//! `GET /metrics`: everything that is counted, for Prometheus (text format 0.0.4).

use super::{Api, process};
use crate::front::{Answer, Problem};
use bytes::Bytes;
use clarion_engine::Counters;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use std::fmt::Write;

/// A page of metrics that grows.
struct Page(String);

impl Page {
    /// One metric: each sample has its labels, as `name="value"`, and its value.
    fn metric<L: AsRef<str>, V: std::fmt::Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) {
        let page = &mut self.0;
        // Writing to a string cannot fail.
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = match labels.as_ref() {
                "" => writeln!(page, "{name} {value}"),
                labels => writeln!(page, "{name}{{{labels}}} {value}"),
            };
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.metric(name, "gauge", help, [("", value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.metric(name, "counter", help, [("", value)]);
    }

    fn shard(&mut self, counters: &Counters) {
        let both = |received, sent| [(r#"direction="in""#, received), (r#"direction="out""#, sent)];
        self.gauge("clarion_connections", "WebSocket connections.", counters.connections);
        self.gauge("clarion_rooms", "Rooms that somebody uses.", counters.rooms);
        self.gauge("clarion_members", "Memberships of sessions in rooms.", counters.members);
        self.metric(
            "clarion_messages_total",
            "counter",
            "WebSocket messages received and sent.",
            both(counters.messages_in, counters.messages_out),
        );
        self.metric(
            "clarion_bytes_total",
            "counter",
            "Bytes received and sent after the handshakes.",
            both(counters.bytes_in, counters.bytes_out),
        );
        self.metric(
            "clarion_deflate_messages_total",
            "counter",
            "Compressed messages received, and messages compressed; one made once for many is one.",
            both(counters.inflated_messages, counters.deflated_messages),
        );
        self.metric(
            "clarion_deflate_bytes_total",
            "counter",
            "Bytes of those messages, compressed and not.",
            [
                (r#"direction="in",form="compressed""#, counters.inflated_bytes),
                (r#"direction="in",form="plain""#, counters.inflated_plain_bytes),
                (r#"direction="out",form="compressed""#, counters.deflated_bytes),
                (r#"direction="out",form="plain""#, counters.deflated_plain_bytes),
            ],
        );
        let accepted = "Publications that were accepted.";
        self.counter("clarion_publications_total", accepted, counters.publications);
        let queued = "Publications that were queued for a member.";
        self.counter("clarion_deliveries_total", queued, counters.deliveries);
        let resumed = "Sessions that came back with a ticket.";
        self.counter("clarion_resumed_total", resumed, counters.resumed);
        let behind = "Members that were too slow and fell back to reading the log.";
        self.counter("clarion_fell_behind_total", behind, counters.fell_behind);
        self.counter("clarion_gaps_total", "Announced losses.", counters.gaps);
        let label = |(name, count): (&&str, &u64)| (format!(r#"name="{name}""#), *count);
        let errors = "Errors sent to clients, by name.";
        self.metric("clarion_errors_total", "counter", errors, counters.errors.iter().map(label));
        let label = |(code, count): (&u16, &u64)| (format!(r#"code="{code}""#), *count);
        let closes = "Connections ended, by close code; 1006 for none.";
        self.metric("clarion_closes_total", "counter", closes, counters.closes.iter().map(label));
    }
}

impl Api {
    pub(super) async fn metrics(&self) -> Result<Answer, Problem> {
        let counters = self.counters().await?;
        let mut page = Page(String::with_capacity(4_096));
        let version = concat!(r#"version=""#, env!("CARGO_PKG_VERSION"), r#"""#);
        page.metric("clarion_build_info", "gauge", "What runs here.", [(version, 1)]);
        let uptime = self.started.elapsed().as_secs();
        page.gauge("clarion_uptime_seconds", "Time since the start.", uptime);
        page.gauge("clarion_workers", "Threads that serve connections.", self.workers.count());
        page.shard(&counters);
        page.metric(
            "clarion_handshakes_total",
            "counter",
            "WebSocket handshakes, by what came of them.",
            self.handshakes.counts().map(|(name, count)| (format!(r#"outcome="{name}""#), count)),
        );
        let open = self.http_connections.count();
        page.gauge("clarion_http_connections", "HTTP connections, shaking hands or not.", open);
        let memory = "Memory of this process, in bytes.";
        page.gauge("process_resident_memory_bytes", memory, process::memory_bytes());
        let cpu = "CPU time of this process, in seconds.";
        page.counter("process_cpu_seconds_total", cpu, process::cpu_time().as_secs_f64());

        let mut response = Response::new(Full::new(Bytes::from(page.0)));
        let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_help_and_type_before_its_samples() {
        let mut counters = Counters { connections: 3, ..Counters::default() };
        counters.errors.insert("bad_room", 2);
        let mut page = Page(String::new());
        page.shard(&counters);
        assert!(page.0.contains("\nclarion_connections 3\n"));
        assert!(page.0.contains("clarion_errors_total{name=\"bad_room\"} 2\n"));
        assert!(page.0.contains("clarion_messages_total{direction=\"in\"} 0\n"));
        for line in page.0.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(page.0.contains(&format!("# HELP {name} ")), "{line}");
            assert!(page.0.contains(&format!("# TYPE {name} ")), "{line}");
        }
    }
}
