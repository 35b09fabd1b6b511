//! The streams and the consumer: what they have to be, and how they are made and checked.
//!
//! Invariant: what exists is never changed. Somebody may have had a reason, and other hosts rely on it.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, PullConsumer, ReplayPolicy, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, Context, GetStreamErrorKind};
use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, StorageType, Stream};

use super::{Difference, Error, Options};

/// The stream of work.
pub(super) const TASKS: &str = "WORKFLOW_TASKS";
/// The stream for listeners.
pub(super) const EVENTS: &str = "WORKFLOW_EVENTS";
/// The consumer that all hosts share.
pub(super) const CONSUMER: &str = "hosts";

/// Within it the server drops a message whose id it has seen. Longer than any publication is tried again under the same id; NATS' own default.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);
/// A delivery that nobody settled for so long goes to another host: one that was paused or died with it in hand. A claim is durable, and its
/// delivery settled, within milliseconds; a store that is away for longer costs a delivery that is refused.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// Pulls that wait at the server at most: those of some hundred hosts with all their slots free.
const WAITING_MAX: i64 = 4096;
/// Events are kept for a week: a listener that was away for a long weekend misses nothing.
const EVENTS_AGE: Duration = Duration::from_hours(7 * 24);
/// And up to so many bytes: a few million events, and little beside the store that has them all.
const EVENTS_BYTES: i64 = 2 << 30;
/// Two hosts that make the same thing at once see each other's on the second try.
const TRIES_MAX: u32 = 3;

/// What is on the server.
pub(super) struct Found {
    pub tasks: Stream<()>,
    pub consumer: PullConsumer,
    /// Messages in the stream of work.
    pub messages: usize,
    /// Whether the stream of work or its consumer had to be made.
    pub made: bool,
}

/// Makes what is missing and checks what is there.
pub(super) async fn ensure(context: &Context, options: &Options) -> Result<Found, Error> {
    let (tasks, made_tasks) = ensure_stream(context, tasks(options)).await?;
    ensure_stream(context, events(options)).await?;
    let (consumer, made_consumer) = ensure_consumer(&tasks, hosts(options)).await?;
    let messages = usize::try_from(tasks.cached_info().state.messages).unwrap_or(usize::MAX);
    let tasks = context.get_stream_no_info(TASKS).await.map_err(|error| failed(TASKS, &error))?;
    Ok(Found { tasks, consumer, messages, made: made_tasks || made_consumer })
}

fn tasks(options: &Options) -> stream::Config {
    stream::Config {
        name: TASKS.to_owned(),
        description: Some("Steps of Caisson that are ready to run".to_owned()),
        subjects: vec!["wf.task.>".to_owned()],
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        // The window: what does not fit is refused, and stays in the store.
        max_messages: signed(options.window),
        discard: DiscardPolicy::New,
        num_replicas: options.replicas,
        duplicate_window: DUPLICATE_WINDOW,
        ..stream::Config::default()
    }
}

fn events(options: &Options) -> stream::Config {
    stream::Config {
        name: EVENTS.to_owned(),
        description: Some("Events of Caisson's runs, for listeners".to_owned()),
        subjects: vec!["wf.event.>".to_owned()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        max_age: EVENTS_AGE,
        max_bytes: EVENTS_BYTES,
        discard: DiscardPolicy::Old,
        num_replicas: options.replicas,
        duplicate_window: DUPLICATE_WINDOW,
        ..stream::Config::default()
    }
}

fn hosts(options: &Options) -> pull::Config {
    pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        description: Some("All hosts of Caisson".to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // A step that no host can claim is the engine's to end, which counts lost claims.
        max_deliver: -1,
        replay_policy: ReplayPolicy::Instant,
        // All that the stream can hold: steps that have to wait (a store that is away, a live lease) never stop the others.
        max_ack_pending: signed(options.window),
        max_waiting: WAITING_MAX,
        ..pull::Config::default()
    }
}

async fn ensure_stream(context: &Context, expected: stream::Config) -> Result<(Stream, bool), Error> {
    let name = expected.name.clone();
    let mut tries = 0;
    loop {
        match context.get_stream(&name).await {
            Ok(stream) => {
                let differences = stream_differences(&stream.cached_info().config, &expected);
                return if differences.is_empty() {
                    Ok((stream, false))
                } else {
                    Err(Error::Settings {
                        what: format!("the stream {name}"),
                        differences,
                        advice: stream_advice(&name),
                    })
                };
            }
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(inner) if inner.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
                _ => return Err(failed(&name, &error)),
            },
        }
        match context.create_stream(expected.clone()).await {
            Ok(stream) => return Ok((stream, true)),
            Err(_) if tries < TRIES_MAX => tries += 1,
            Err(error) => return Err(failed(&name, &error)),
        }
    }
}

async fn ensure_consumer(tasks: &Stream, expected: pull::Config) -> Result<(PullConsumer, bool), Error> {
    let what = format!("the consumer {CONSUMER} of {TASKS}");
    let mut tries = 0;
    loop {
        match tasks.consumer_info(CONSUMER).await {
            Ok(info) => {
                let differences = consumer_differences(&info.config, &expected);
                if !differences.is_empty() {
                    let advice = format!(
                        "Make them so, or stop all hosts and delete it (nats consumer rm {TASKS} {CONSUMER}): it is made again"
                    );
                    return Err(Error::Settings { what, differences, advice });
                }
                let consumer = tasks.get_consumer(CONSUMER).await;
                return Ok((consumer.map_err(|error| failed(&what, &*error))?, false));
            }
            Err(error) => match error.kind() {
                ConsumerInfoErrorKind::NotFound => {}
                _ => return Err(failed(&what, &error)),
            },
        }
        match tasks.create_consumer_strict(expected.clone()).await {
            Ok(consumer) => return Ok((consumer, true)),
            Err(_) if tries < TRIES_MAX => tries += 1,
            Err(error) => return Err(failed(&what, &error)),
        }
    }
}

fn stream_advice(name: &str) -> String {
    if name == TASKS {
        format!(
            "Make them so (nats stream edit {name}), or stop all hosts and delete it (nats stream rm {name}): it is made again, and all that is \
             ready is published again"
        )
    } else {
        format!(
            "Make them so (nats stream edit {name}), or delete it with what it holds (nats stream rm {name}): it is made again"
        )
    }
}

/// Writes down a setting that differs.
macro_rules! compare {
    ($found:ident, $expected:ident: $($field:ident $(as $name:literal)?),* $(,)?) => {{
        let mut differences = Vec::new();
        $(if $found.$field != $expected.$field {
            let field = [$($name,)? stringify!($field)][0];
            let (found, expected) = (format!("{:?}", $found.$field), format!("{:?}", $expected.$field));
            differences.push(Difference { field, found, expected });
        })*
        differences
    }};
}

fn stream_differences(found: &stream::Config, expected: &stream::Config) -> Vec<Difference> {
    // The server writes "no limit" as -1.
    let plain = |config: &stream::Config| stream::Config {
        max_messages: config.max_messages.max(0),
        max_bytes: config.max_bytes.max(0),
        max_messages_per_subject: config.max_messages_per_subject.max(0),
        ..config.clone()
    };
    let (found, expected) = (plain(found), plain(expected));
    // How long and how much listeners want is the operator's to choose.
    let mut differences = compare!(found, expected:
        subjects, retention, storage, discard, num_replicas as "replicas", duplicate_window,
        max_messages_per_subject as "max_msgs_per_subject", no_ack, sealed, mirror, sources, subject_transform,
    );
    if expected.name == TASKS {
        differences.extend(compare!(found, expected: max_messages as "max_msgs", max_bytes, max_age));
    }
    differences
}

fn consumer_differences(found: &consumer::Config, expected: &pull::Config) -> Vec<Difference> {
    let expected = consumer::IntoConsumerConfig::into_consumer_config(expected);
    compare!(found, expected:
        deliver_subject, deliver_policy, ack_policy, ack_wait, max_deliver, filter_subject, filter_subjects, replay_policy,
        max_ack_pending, max_waiting, headers_only, backoff,
    )
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn failed(what: &str, error: &dyn std::error::Error) -> Error {
    Error::JetStream { what: what.to_owned(), reason: super::link::with_sources(error) }
}
