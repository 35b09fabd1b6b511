//! A definition as a graph: what can never be reached, and what leads back to itself.

use crate::model::{Block, Definition, Next, State, StateId, StateKind};

/// A finding about a state.
pub(super) enum Finding {
    /// No transition leads there.
    Unreachable(StateId),
    /// These lead to one another, in this order, and the last to the first.
    Circle(Vec<StateId>),
}

/// Looks at every block.
pub(super) fn look_at(definition: &Definition) -> Vec<Finding> {
    definition.blocks.iter().flat_map(|block| look_at_block(definition, block)).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    /// On the way from the start to where we are.
    Open,
    Done,
}

fn look_at_block(definition: &Definition, block: &Block) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut marks = vec![Mark::New; definition.states.len()];
    visit(definition, block.start, &mut marks, &mut findings);
    for id in &block.states {
        if marks[id.0 as usize] == Mark::New {
            findings.push(Finding::Unreachable(*id));
            visit(definition, *id, &mut marks, &mut findings);
        }
    }
    findings
}

/// Depth first, without recursion: a chain may be as long as a file.
fn visit(definition: &Definition, start: StateId, marks: &mut [Mark], findings: &mut Vec<Finding>) {
    let mut way: Vec<(StateId, Vec<StateId>)> = vec![(start, targets(definition.state(start)))];
    marks[start.0 as usize] = Mark::Open;
    while let Some((id, left)) = way.last_mut() {
        let Some(target) = left.pop() else {
            marks[id.0 as usize] = Mark::Done;
            way.pop();
            continue;
        };
        match marks[target.0 as usize] {
            Mark::Done => {}
            Mark::New => {
                marks[target.0 as usize] = Mark::Open;
                way.push((target, targets(definition.state(target))));
            }
            Mark::Open => {
                let circle = way.iter().map(|(id, _)| *id).skip_while(|id| *id != target).collect();
                findings.push(Finding::Circle(circle));
            }
        }
    }
}

/// Everywhere a state can lead to, the first in its definition last.
fn targets(state: &State) -> Vec<StateId> {
    let goto = |next: &Next| match next {
        Next::Goto(id) => Some(*id),
        Next::End => None,
    };
    let mut found: Vec<StateId> = goto(&state.next).into_iter().chain(state.on_error).collect();
    match &state.kind {
        StateKind::Operation(operation) => found.extend(operation.on_reject),
        StateKind::Switch(switch) => {
            found.extend(switch.conditions.iter().filter_map(|condition| goto(&condition.next)));
            found.extend(switch.default.as_ref().and_then(goto));
        }
        StateKind::Parallel(_)
        | StateKind::Foreach(_)
        | StateKind::Inject { .. }
        | StateKind::Transform { .. }
        | StateKind::Try(_)
        | StateKind::Wait(_)
        | StateKind::Signal(_)
        | StateKind::Call(_)
        | StateKind::Return { .. }
        | StateKind::Fail(_) => {}
    }
    found.reverse();
    found
}
