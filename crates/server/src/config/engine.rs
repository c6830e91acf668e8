//! From the settings to what the engine obeys. The engine's defaults are the settings' defaults.

use super::{
    Deflate, Heartbeat, Limits, Presence, Room, RoomLog, Session, Settings, Span, Store, Unshared,
    Who,
};
use clarion_engine::config as engine;
use clarion_store::LogLimits;
use clarion_websocket::deflate;

impl Settings {
    /// The engine's part. `ticket_key` is kept over restarts; `hash_seed` is new for each.
    pub(crate) fn engine(&self, ticket_key: [u8; 32], hash_seed: u64) -> clarion_engine::Config {
        let limits = &self.limits;
        clarion_engine::Config {
            workers: self.workers,
            groups_durable: self.store == Store::Sqlite,
            limits: engine::Limits {
                message_bytes: limits.message_bytes,
                fragments: limits.fragments,
                delivery_bytes: limits.delivery_bytes,
                outbox_bytes: limits.outbox_bytes,
                slow_grace_ms: limits.slow_grace.as_ms(),
                mailbox_bytes: limits.mailbox_bytes,
                rooms: limits.rooms,
                commands: limits.commands,
                publish_per_s: limits.publish_per_s,
                commands_per_s: limits.commands_per_s,
                bytes_per_s: limits.bytes_per_s,
                violations_per_min: limits.violations_per_min,
                connections_per_user: limits.connections_per_user,
                members: limits.members,
                graces: limits.graces,
                page: limits.page,
                log_bytes: limits.log_bytes,
                homes: limits.homes,
                group_users: limits.group_users,
                revocations: limits.revocations,
                handshake_ms: limits.handshake.as_ms(),
                close_ms: limits.close.as_ms(),
                echo_message_bytes: limits.echo_message_bytes,
                echo_fragments: limits.echo_fragments,
            },
            heartbeat: engine::Heartbeat {
                interval_ms: self.heartbeat.interval.as_ms(),
                timeout_ms: self.heartbeat.timeout.as_ms(),
            },
            session: engine::Session { ttl_ms: self.session.ttl.as_ms() },
            presence: engine::Presence {
                interval_ms: self.presence.interval.as_ms(),
                detail_max: self.presence.detail_max,
            },
            deflate: engine::Deflate {
                threshold_bytes: self.deflate.threshold_bytes,
                level: self.deflate.level,
                unicast_level: self.deflate.unicast_level,
                unshared: match self.deflate.unshared {
                    Unshared::Plain => engine::Unshared::Plain,
                    Unshared::Own => engine::Unshared::Own,
                },
            },
            rooms: self.rooms.iter().map(Room::rule).collect(),
            ticket_key,
            hash_seed,
        }
    }
}

impl Deflate {
    /// What the front agrees to; `None` for nothing.
    pub(crate) fn negotiation(&self) -> Option<deflate::Config> {
        self.enabled.then_some(deflate::Config {
            server_takeover: self.server_takeover,
            client_takeover: self.client_takeover,
            server_window_bits: self.server_window_bits,
            client_window_bits: self.client_window_bits,
        })
    }
}

impl Room {
    fn rule(&self) -> engine::RoomRule {
        let default = LogLimits::default();
        let special = self.pattern.as_str().starts_with('$');
        let join = self.join.unwrap_or(Who::Everyone);
        let publish = if special { Who::Granted } else { Who::Everyone };
        let log = (self.log != RoomLog::None).then(|| LogLimits {
            size: self.size.unwrap_or(default.size),
            age_ms: self.age.map_or(default.age_ms, Span::as_ms),
            bytes: self.bytes.unwrap_or(default.bytes),
            key_window_ms: self.key_window.map_or(default.key_window_ms, Span::as_ms),
        });
        engine::RoomRule {
            pattern: self.pattern.clone(),
            settings: engine::RoomSettings {
                log,
                durable: self.log == RoomLog::Durable,
                presence: self.presence.unwrap_or(true),
                permissions: engine::Permissions {
                    join: join.into(),
                    publish: self.publish.unwrap_or(publish).into(),
                    history: self.history.unwrap_or(join).into(),
                    members: self.members.unwrap_or(join).into(),
                    state: self.state.unwrap_or(join).into(),
                },
                payload_bytes: self.payload_bytes,
                types: self
                    .types
                    .as_ref()
                    .map(|types| types.iter().map(|kind| Box::from(kind.as_str())).collect()),
            },
        }
    }
}

impl From<Who> for engine::Access {
    fn from(who: Who) -> Self {
        match who {
            Who::Everyone => Self::Everyone,
            Who::Users => Self::Users,
            Who::Granted => Self::Granted,
            Who::Nobody => Self::Nobody,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let engine = engine::Limits::default();
        Self {
            message_bytes: engine.message_bytes,
            fragments: engine.fragments,
            delivery_bytes: engine.delivery_bytes,
            outbox_bytes: engine.outbox_bytes,
            slow_grace: Span::from_ms(engine.slow_grace_ms),
            mailbox_bytes: engine.mailbox_bytes,
            rooms: engine.rooms,
            commands: engine.commands,
            publish_per_s: engine.publish_per_s,
            commands_per_s: engine.commands_per_s,
            bytes_per_s: engine.bytes_per_s,
            violations_per_min: engine.violations_per_min,
            connections_per_user: engine.connections_per_user,
            members: engine.members,
            graces: engine.graces,
            page: engine.page,
            log_bytes: engine.log_bytes,
            wal_bytes: 16 << 20,
            homes: engine.homes,
            group_users: engine.group_users,
            revocations: engine.revocations,
            handshake: Span::from_ms(engine.handshake_ms),
            close: Span::from_ms(engine.close_ms),
            echo_message_bytes: engine.echo_message_bytes,
            echo_fragments: engine.echo_fragments,
            connections: 1_000_000,
            http_connections: 10_000,
            memory_bytes: crate::front::default_bytes(),
            http_body_bytes: 1 << 20,
            connections_per_ip: 0,
            handshakes_per_s: 0,
            handshakes_per_s_per_ip: 0,
            requests_per_s_per_ip: 0,
            requests_per_s_per_key: 0,
            exempt: vec!["127.0.0.0/8".into(), "::1/128".into()],
        }
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        let engine = engine::Heartbeat::default();
        Self {
            interval: Span::from_ms(engine.interval_ms),
            timeout: Span::from_ms(engine.timeout_ms),
        }
    }
}

impl Default for Session {
    fn default() -> Self {
        Self { ttl: Span::from_ms(engine::Session::default().ttl_ms) }
    }
}

impl Default for Presence {
    fn default() -> Self {
        let engine = engine::Presence::default();
        Self { interval: Span::from_ms(engine.interval_ms), detail_max: engine.detail_max }
    }
}

impl Default for Deflate {
    fn default() -> Self {
        let (engine, agreed) = (engine::Deflate::default(), deflate::Config::default());
        Self {
            enabled: true,
            server_window_bits: agreed.server_window_bits,
            client_window_bits: agreed.client_window_bits,
            server_takeover: agreed.server_takeover,
            client_takeover: agreed.client_takeover,
            threshold_bytes: engine.threshold_bytes,
            level: engine.level,
            unicast_level: engine.unicast_level,
            unshared: Unshared::Plain,
        }
    }
}
