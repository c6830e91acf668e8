//! The log on the standard error: human on a terminal, JSON otherwise.
//!
//! A thread of its own writes it, behind a queue of [`LINES`]: when whoever reads the log is slow,
//! lines are dropped and no connection waits. Nothing here ever sees a token or a payload, because
//! nothing that logs is given one.

use crate::config::{Format, Level, Log};
use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, OnceLock};
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Lines that wait to be written; later ones are dropped. The queue takes 40 bytes for each from the
/// start, so the library's default of 128,000 would be a third of an empty server.
const LINES: usize = 8_192;

/// Dropped to make the writing thread write out everything.
static GUARD: Mutex<Option<WorkerGuard>> = Mutex::new(None);
/// Counts the lines that were dropped.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Starts logging, and has panics logged, too.
pub(crate) fn start(settings: &Log) {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(LINES).lossy(true).finish(stderr());
    *GUARD.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(guard);
    // A second start in one process, in tests, keeps the first one's.
    let _ = DROPPED.set(writer.error_counter());
    let human = match settings.format {
        Format::Auto => stderr().is_terminal(),
        Format::Human => true,
        Format::Json => false,
    };
    let level = match settings.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let lines = fmt::layer().with_writer(writer).with_target(false);
    let lines = if human {
        lines.with_ansi(stderr().is_terminal()).boxed()
    } else {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    };
    // What administrators did is told at any level.
    let wanted =
        Targets::new().with_default(level).with_target(crate::audit::TARGET, LevelFilter::INFO);
    tracing_subscriber::registry().with(lines.with_filter(wanted)).init();
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let cause = text(panic.payload());
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(thread = thread.name(), cause, place, "panic");
    }));
}

/// Lines that were dropped since the start.
pub(crate) fn dropped() -> usize {
    DROPPED.get().map_or(0, ErrorCounter::dropped_lines)
}

/// What a panic says; nearly all are one of these two.
fn text(payload: &dyn std::any::Any) -> &str {
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    let text = payload.downcast_ref::<&str>().copied().or_else(owned);
    text.unwrap_or("a panic without a message")
}

/// Waits, for a second at most, until everything is written. Nothing can be logged afterwards.
pub(crate) fn finish() {
    drop(GUARD.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
}

/// Ends the process after the log is written.
pub(crate) fn exit(code: i32) -> ! {
    finish();
    std::process::exit(code)
}
