//! Operations: claims, results, retries, suspensions.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::decide::Decider;
use super::inputs::Stop;
use super::open::Step;
use super::{Activity, ApprovalStatus, Event, Refusal, StepNo, Wake};
use crate::error::{Category, Failure, RetryHint};
use crate::json::Json;
use crate::model::{Backoff, Retry, State};
use crate::ports::{Entry, Outcome, Suspension, Usage};
use crate::status::{RunStatus, StepStatus};

/// The longest pause between attempts that an action itself may ask for: a day.
const RETRY_AFTER_MS_MAX: u64 = 86_400_000;

impl<'a> Decider<'a> {
    pub(super) fn claim(&mut self, number: StepNo, host: Arc<str>) -> Result<(), Stop> {
        let step = self.open_step(number)?;
        if !step.is_ready() || self.state.status == RunStatus::Paused {
            return Err(Refusal::NotReady(number).into());
        }
        self.emit(Event::StepStarted {
            step: number,
            attempt: step.attempt,
            entry: step.entry,
            claim: step.claim + 1,
            host,
        });
        self.out.ready.retain(|ready| *ready != number);
        if let Some(step) = self.state.steps.get(&number) {
            self.out.started.push(step.clone());
        }
        Ok(())
    }

    pub(super) fn open_step(&self, number: StepNo) -> Result<Arc<Step>, Stop> {
        self.state.steps.get(&number).cloned().ok_or_else(|| Refusal::NoSuchStep(number).into())
    }

    fn held(&self, number: StepNo, claim: u32) -> Result<(Arc<Step>, &'a State), Stop> {
        let stale = || Stop::Refused(Refusal::StaleClaim { step: number, claim });
        let step = self.state.steps.get(&number).cloned().ok_or_else(stale)?;
        if step.host.is_none() || step.claim != claim {
            return Err(stale());
        }
        let state = self.state_of(&step).ok_or_else(stale)?;
        Ok((step, state))
    }

    pub(super) fn result(&mut self, number: StepNo, attempt: u32, claim: u32, entry: Entry) -> Result<(), Stop> {
        let (step, state) = self.held(number, claim)?;
        if step.attempt != attempt {
            return Err(Refusal::StaleClaim { step: number, claim }.into());
        }
        let Entry { result, usage, warnings } = entry;
        match result {
            Ok(Outcome::Done(json)) => match self.value("the output", json) {
                Ok(output) => {
                    let then = self.next_of(state);
                    self.succeed_with(number, state, Some(output), then, usage, warnings);
                    Ok(())
                }
                Err(failure) => {
                    self.attempt_failed(&step, state, failure, usage, warnings);
                    Ok(())
                }
            },
            Ok(Outcome::Suspend(suspension)) => self.suspend(&step, state, suspension, usage, warnings),
            Err(failure) => {
                self.attempt_failed(&step, state, failure, usage, warnings);
                Ok(())
            }
        }
    }

    /// The host died with the step in hand: it is ready again, the attempt goes on. Too many in a row are given up.
    pub(super) fn lost(&mut self, number: StepNo, claim: u32) -> Result<(), Stop> {
        let (step, state) = self.held(number, claim)?;
        if step.lost + 1 >= self.limits.lost_claims_max {
            let message = format!(
                "{} hosts died while they ran this attempt: look at what the action does to a host",
                self.limits.lost_claims_max
            );
            let failure = Failure::new(Category::LimitError, crate::ports::dead::STEP_LOST, message).never_retried();
            self.fail(number, state, &failure);
        } else {
            self.emit(Event::StepLost { step: number, claim });
        }
        Ok(())
    }

    fn suspend(
        &mut self,
        step: &Arc<Step>,
        state: &State,
        suspension: Suspension,
        usage: Usage,
        warnings: Vec<Failure>,
    ) -> Result<(), Stop> {
        let Suspension { state: kept, signals, wake_after_ms, approval } = suspension;
        if signals.is_empty() && wake_after_ms.is_none() && approval.is_none() {
            let message =
                "the action suspended itself without anything that could wake it: a signal, a time or an approval";
            let failure = Failure::new(Category::ActionError, "SUSPENDED_FOR_EVER", message).never_retried();
            self.attempt_failed(step, state, failure, usage, warnings);
            return Ok(());
        }
        let kept = match self.value("the suspended state", Json::of(&base64(&kept))) {
            Ok(kept) => kept,
            Err(failure) => {
                self.attempt_failed(step, state, failure, usage, warnings);
                return Ok(());
            }
        };
        let mut wake_at = wake_after_ms.map(|ms| self.now().plus_ms(ms));
        let approval = match approval {
            None => None,
            Some(request) => {
                if let Some(failure) = request.summary.as_ref().and_then(|s| super::decide::too_deep("the summary", s))
                {
                    self.attempt_failed(step, state, failure, usage, warnings);
                    return Ok(());
                }
                let own = request.deadline_ms.map(|ms| self.now().plus_ms(ms));
                let deadline = own.into_iter().chain(step.deadline).min();
                // Before the attempt's own deadline, the guest is woken to hear that nobody answered.
                if let Some(own) = own.filter(|own| step.deadline.is_none_or(|deadline| *own < deadline)) {
                    wake_at = Some(wake_at.map_or(own, |at| at.min(own)));
                }
                let id = super::ids::approval(&step.id, step.attempt, step.entry);
                let summary = request.summary.map(|summary| self.payload(summary));
                self.emit(Event::ApprovalRequested {
                    approval: id.clone(),
                    step: step.number,
                    message: request.message,
                    summary,
                    approvers: request.approvers,
                    deadline,
                });
                if let Some(open) = self.state.approvals.get(&id) {
                    let row = super::project::approval_row(&self.state, &id, open, None);
                    self.out.approvals.insert(id.clone(), row);
                }
                Some(id)
            }
        };
        self.emit(Event::StepSuspended {
            step: step.number,
            claim: step.claim,
            state: kept,
            signals,
            wake_at,
            approval,
            usage,
        });
        self.take_from_mailbox(step.number)
    }

    /// An attempt ended in an error: again, or for good.
    pub(super) fn attempt_failed(
        &mut self,
        step: &Arc<Step>,
        state: &State,
        mut failure: Failure,
        usage: Usage,
        warnings: Vec<Failure>,
    ) {
        // What cannot be kept whole is not kept at all; the code and the message say what happened.
        failure.details = failure.details.filter(|details| super::decide::too_deep("", details).is_none());
        match retry_after(step, state.retry.as_ref(), &failure) {
            Some(delay_ms) => {
                let at = self.now().plus_ms(delay_ms);
                self.emit(Event::StepRetrying {
                    step: step.number,
                    error: failure,
                    attempt: step.attempt + 1,
                    at,
                    usage,
                });
            }
            None => self.fail_with(step.number, state, &failure, usage, warnings),
        }
    }

    /// The pause is over, or the parked step's time has come.
    pub(super) fn wake(&mut self, number: StepNo, step: &Arc<Step>, state: &State) {
        if step.retry_at.is_some() {
            let deadline = state.timeout_ms.map(|ms| self.now().plus_ms(ms));
            self.emit(Event::StepReady { step: number, deadline });
            if matches!(step.activity, Activity::Call { .. }) {
                self.start_child(number);
            }
        } else if matches!(step.activity, Activity::Wait { .. }) {
            self.succeed(number, state, None);
        } else if let Some(parked) = &step.parked {
            let expired = parked.approval.as_ref().filter(|id| {
                self.state.approvals.get(*id).and_then(|open| open.deadline).is_some_and(|due| due <= self.now())
            });
            let wake = if let Some(id) = expired {
                self.decide_approval(id, ApprovalStatus::TimedOut, None, None);
                Wake::Approval { status: ApprovalStatus::TimedOut, actor: None, comment: None }
            } else {
                self.drop_approval(parked.approval.as_ref());
                Wake::Timer
            };
            self.emit(Event::StepWoken { step: number, wake });
        }
    }

    /// A parked step that wakes for another reason no longer waits for its approval.
    pub(super) fn drop_approval(&mut self, approval: Option<&crate::ids::ApprovalId>) {
        if let Some(id) = approval {
            self.decide_approval(id, ApprovalStatus::Cancelled, None, None);
        }
    }

    /// The time of an attempt is up.
    pub(super) fn deadline(&mut self, number: StepNo, step: &Arc<Step>, state: &State) {
        let seconds = state.timeout_ms.unwrap_or_default() as f64 / 1000.0;
        let waits_for_human = step.parked.as_ref().is_some_and(|parked| parked.approval.is_some());
        self.release(number, ApprovalStatus::TimedOut, "the step's time is up");
        let failure = match &step.activity {
            Activity::Operation { .. } if waits_for_human => {
                let message = format!("nobody decided within {seconds} s");
                Failure::new(Category::TimeoutError, super::APPROVAL_TIMED_OUT, message).never_retried()
            }
            Activity::Signal { name, .. } => {
                let message = format!("signal '{name}' did not come within {seconds} s");
                Failure::new(Category::TimeoutError, "SIGNAL_TIMED_OUT", message).never_retried()
            }
            _ => {
                let message = format!("the attempt took longer than timeoutSeconds: {seconds}");
                Failure::new(Category::TimeoutError, "STEP_TIMEOUT", message)
            }
        };
        self.attempt_failed(step, state, failure, Usage::default(), Vec::new());
    }
}

/// The pause before the next attempt; `None` if there is none.
fn retry_after(step: &Step, retry: Option<&Retry>, failure: &Failure) -> Option<u64> {
    let retry = retry?;
    if step.attempt >= retry.max_attempts || failure.retry == RetryHint::Never {
        return None;
    }
    // Data that does not fit and a human's no stay as they are, however often one asks.
    if failure.category == Category::ValidationError || failure.code == super::APPROVAL_REJECTED {
        return None;
    }
    let wanted = if retry.retry_on.is_empty() {
        matches!(failure.category, Category::ActionError | Category::TransientError | Category::TimeoutError)
    } else {
        retry.retry_on.iter().any(|selector| failure.matches(selector))
    };
    if !wanted {
        return None;
    }
    let pause = backoff_ms(retry, step.attempt, &step.id);
    Some(match failure.retry {
        RetryHint::AfterMs(at_least) => pause.max(at_least.min(RETRY_AFTER_MS_MAX)),
        RetryHint::Default | RetryHint::Never => pause,
    })
}

/// The pause after so many attempts. Chance comes from a hash of the step and the attempt: no clock, no generator, the same on every host.
pub(super) fn backoff_ms(retry: &Retry, attempt: u32, step: &crate::ids::StepId) -> u64 {
    let base = retry.delay_ms as f64;
    let grown = match retry.backoff {
        Backoff::Fixed => base,
        Backoff::Linear => base * f64::from(attempt),
        Backoff::Exponential => base * retry.multiplier.powi(i32::try_from(attempt - 1).unwrap_or(i32::MAX)),
    };
    let capped = grown.min(retry.max_delay_ms as f64);
    let digest = Sha256::digest(format!("jitter:{step}:{attempt}"));
    let chance = f64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])) / f64::from(u32::MAX);
    let factor = 1.0 + retry.jitter * (2.0 * chance - 1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "capped, and never negative")]
    let ms = (capped * factor).max(0.0).min(retry.max_delay_ms as f64).round() as u64;
    ms
}

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = u32::from(chunk[0]) << 16
            | u32::from(chunk.get(1).copied().unwrap_or(0)) << 8
            | u32::from(chunk.get(2).copied().unwrap_or(0));
        for at in 0..4 {
            if at <= chunk.len() {
                text.push(LETTERS[(word >> (18 - 6 * at) & 63) as usize] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// Reads it back; `None` for a text that [`base64`] did not make.
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in text.as_bytes().chunks(4) {
        let mut word = 0u32;
        let mut pads = 0;
        for byte in chunk {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => {
                    pads += 1;
                    0
                }
                _ => return None,
            };
            word = word << 6 | u32::from(value);
        }
        if chunk.len() != 4 || pads > 2 {
            return None;
        }
        bytes.extend_from_slice(&word.to_be_bytes()[1..4 - pads]);
    }
    Some(bytes)
}

impl Decider<'_> {
    /// Whether a step is parked and waits for this signal by name.
    pub(super) fn parked_on(step: &Step, name: &str) -> bool {
        step.status != StepStatus::Pending
            && step.parked.as_ref().is_some_and(|parked| parked.signals.iter().any(|wanted| wanted == name))
    }
}
