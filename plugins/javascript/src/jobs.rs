//! The queue of promise jobs, run until nothing is left to run.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Waker};

use boa_engine::job::{Job, JobExecutor};
use boa_engine::{Context, JsResult};

/// First in, first out. A job that waits for something outside will never have it: it is dropped, and its promise stays open.
#[derive(Default)]
pub struct Jobs {
    waiting: RefCell<VecDeque<Job>>,
}

impl JobExecutor for Jobs {
    fn enqueue_job(self: Rc<Self>, job: Job, _: &mut Context) {
        self.waiting.borrow_mut().push_back(job);
    }

    fn run_jobs(self: Rc<Self>, context: &mut Context) -> JsResult<()> {
        while let Some(job) = { self.waiting.borrow_mut().pop_front() } {
            match job {
                Job::PromiseJob(job) => drop(job.call(context)?),
                Job::GenericJob(job) => drop(job.call(context)?),
                Job::AsyncJob(job) => {
                    let shared = RefCell::new(&mut *context);
                    let polled = pin!(job.call(&shared)).poll(&mut TaskContext::from_waker(Waker::noop()));
                    if let std::task::Poll::Ready(result) = polled {
                        result?;
                    }
                }
                // Timers and the clean-up of registries: nothing here makes the ones, nobody sees the others.
                _ => {}
            }
        }
        context.clear_kept_objects();
        Ok(())
    }
}
