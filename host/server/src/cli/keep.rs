//! How long a host keeps runs whose workflows do not say it, and how much work may wait.

use std::path::PathBuf;

use caisson_core::model::Retention;
use caisson_core::time::parse_duration_ms;
use caisson_orchestrator::Load;
use clap::Args;

use super::Usage;

/// The options.
#[derive(Clone, Debug, Args)]
pub struct KeepArgs {
    /// How long after its end a run keeps its data, where its workflow does not say: 30d, 12h, P30D [default: as long as
    /// the run].
    #[arg(long, env = "CAISSON_RETAIN_PAYLOADS", value_name = "DURATION", value_parser = age_ms)]
    retain_payloads: Option<u64>,
    /// How long after its end a run is kept at all, where its workflow does not say [default: for ever].
    #[arg(long, env = "CAISSON_RETAIN_RUNS", value_name = "DURATION", value_parser = age_ms)]
    retain_runs: Option<u64>,
    /// A directory, made if it is not there, in which a run is written down before its data is erased.
    #[arg(long, env = "CAISSON_ARCHIVE_DIR", value_name = "DIR")]
    archive_dir: Option<PathBuf>,
    /// With so many steps waiting for a host, no more runs are started.
    #[arg(
        long,
        env = "CAISSON_BACKLOG_MAX",
        value_name = "N",
        default_value_t = Load::default().backlog_max,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    backlog_max: u64,
}

/// What they mean.
#[derive(Debug)]
pub struct Kept {
    /// How long runs are kept whose workflows do not say it.
    pub retention: Retention,
    /// Where they are kept before their data is erased.
    pub archive_dir: Option<PathBuf>,
    /// How much may wait.
    pub load: Load,
}

impl KeepArgs {
    /// Together they have to make sense.
    pub fn kept(self) -> Result<Kept, Usage> {
        let retention = Retention { payloads_ms: self.retain_payloads, runs_ms: self.retain_runs };
        if let (Some(payloads), Some(runs)) = (retention.payloads_ms, retention.runs_ms)
            && payloads > runs
        {
            let message = "--retain-payloads is longer than --retain-runs, and a run goes with all that is in it: \
                           raise --retain-runs, or lower --retain-payloads";
            return Err(Usage(message.to_owned()));
        }
        Ok(Kept { retention, archive_dir: self.archive_dir, load: Load { backlog_max: self.backlog_max } })
    }
}

/// A duration above 0, as definitions write it, in milliseconds.
fn age_ms(text: &str) -> Result<u64, String> {
    let ms = parse_duration_ms(text).filter(|ms| *ms > 0);
    ms.ok_or_else(|| {
        "it should be above 0 and under 100 years: write 30d, 12h, 1h 30m, seconds (90) or ISO 8601 (P30D)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        keep: KeepArgs,
    }

    fn kept(line: &str) -> Result<Kept, String> {
        let parsed = Line::try_parse_from(std::iter::once("caisson").chain(line.split_whitespace()));
        parsed.map_err(|error| error.to_string())?.keep.kept().map_err(|error| error.to_string())
    }

    #[test]
    fn durations_are_those_of_definitions_and_nothing_is_for_ever() {
        const DAY_MS: u64 = 86_400_000;
        for (line, payloads_ms, runs_ms) in [
            ("", None, None),
            ("--retain-payloads 30d", Some(30 * DAY_MS), None),
            ("--retain-runs P90D", None, Some(90 * DAY_MS)),
            ("--retain-payloads 12h --retain-runs 12h", Some(DAY_MS / 2), Some(DAY_MS / 2)),
            ("--retain-payloads 90 --retain-runs 1d", Some(90_000), Some(DAY_MS)),
        ] {
            let kept = kept(line).expect(line);
            assert_eq!(kept.retention, Retention { payloads_ms, runs_ms }, "{line}");
            assert_eq!(kept.load.backlog_max, Load::default().backlog_max);
        }
        assert_eq!(kept("--backlog-max 5").expect("parses").load.backlog_max, 5);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_says_what_to_do() {
        for (line, expected) in [
            ("--retain-payloads 31d --retain-runs 30d", "raise --retain-runs"),
            ("--retain-runs 0", "write 30d"),
            ("--retain-runs 1month", "write 30d"),
            ("--retain-payloads soon", "write 30d"),
            ("--retain-payloads=-1d", "write 30d"),
            ("--backlog-max 0", "0 is not in"),
            ("--backlog-max many", "invalid digit"),
        ] {
            let error = kept(line).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
