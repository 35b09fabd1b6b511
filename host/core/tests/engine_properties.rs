//! Random definitions, delivered in random orders, with duplicates and crashes: the end is always the same. The promises that hold
//! after every single decision are checked by the world itself (`sim::World::check`).

mod sim;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sim::{Chance, World, read, step_ids};

/// Makes a definition whose end does not depend on the order of deliveries.
struct Maker {
    chance: Chance,
    names: u32,
}

impl Maker {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("s{}", self.names)
    }

    fn block(&mut self, depth: u32) -> Value {
        let count = 1 + self.chance.below(3);
        let mut states: Vec<Value> = (0..count).map(|_| self.state(depth)).collect();
        let names: Vec<Value> = states.iter().map(|state| state["name"].clone()).collect();
        for (at, state) in states.iter_mut().enumerate() {
            match names.get(at + 1) {
                Some(next) if state["type"] != "switch" => state["next"] = next.clone(),
                None if state["type"] != "switch" => state["end"] = json!(true),
                // Either way leads on.
                next => {
                    let target = next.cloned().unwrap_or_else(|| names[at].clone());
                    if next.is_some() {
                        state["conditions"] = json!([{ "if": "x > 2", "next": target }]);
                        state["defaultNext"] = target;
                    } else {
                        *state = json!({"name": names[at], "type": "inject", "data": 1, "end": true});
                    }
                }
            }
        }
        json!(states)
    }

    fn state(&mut self, depth: u32) -> Value {
        let name = self.name();
        let kinds = if depth == 0 { 9 } else { 12 };
        match self.chance.below(kinds) {
            0 => json!({"name": name, "type": "inject", "data": {"k": "{{ x }}"}}),
            1 => json!({"name": name, "type": "switch"}),
            2 => json!({"name": name, "type": "wait", "duration": 1 + self.chance.below(5)}),
            3 => {
                json!({"name": name, "type": "operation", "action": "t.nap", "input": {"ms": self.chance.below(3000)}})
            }
            4 => json!({"name": name, "type": "operation", "action": "t.ask", "input": {}}),
            5 => {
                let failures = self.chance.below(3);
                let backoff = ["fixed", "linear", "exponential"][usize::try_from(failures).expect("small")];
                json!({"name": name, "type": "operation", "action": "t.flaky", "input": {"failures": failures},
                       "retry": {"maxAttempts": 3, "backoff": backoff, "backoffSeconds": 1, "jitter": 0.5}})
            }
            6 => json!({"name": name, "type": "call", "workflow": "child", "input": {"x": 3}}),
            7 if self.chance.one_in(3) => {
                json!({"name": name, "type": "operation", "action": "t.fail", "input": {"code": "PLANNED"}})
            }
            7 | 8 => {
                json!({"name": name, "type": "operation", "action": "t.ok", "input": {"x": "{{ x }}", "pad": "p".repeat(usize::try_from(self.chance.below(6000)).expect("small"))}})
            }
            9 => {
                let branches: Vec<Value> = (0..=self.chance.below(3))
                    .map(|at| json!({"name": format!("b{at}"), "states": self.block(depth - 1)}))
                    .collect();
                json!({"name": name, "type": "parallel", "branches": branches, "onBranchError": "continue"})
            }
            10 => {
                json!({"name": name, "type": "foreach", "itemsPath": "list", "itemName": "x", "maxConcurrency": 1 + self.chance.below(4),
                         "onItemError": "continue", "iterator": {"states": self.block(depth - 1)}})
            }
            _ => json!({"name": name, "type": "try", "try": self.block(depth - 1),
                        "catch": {"errors": ["PLANNED", "ExpressionError"], "as": "err", "states": self.block(0)},
                        "finally": self.block(0)}),
        }
    }
}

/// What does not depend on the order: not the ids of steps and children, not times.
fn end_of(def: &str, seed: u64, trouble: bool) -> (Value, BTreeSet<String>) {
    let child = read(
        r#"{"id": "child", "concurrency": 1, "timeoutSeconds": 3600, "states": [{"name": "c", "type": "operation", "action": "t.ok", "input": {"y": "{{ x }}"}, "end": true}]}"#,
    );
    let mut world = World::new([read(def), child]);
    // Being given up after five lost claims would depend on the order.
    world.limits.lost_claims_max = u32::MAX;
    let id = world.start("w", json!({"x": 3, "list": [1, 2, 3, 4]}));
    let mut chance = Chance(seed);
    world.run_to_end(&id, &mut chance, trouble);
    let run = &world.runs[&id];
    let mut context = world.context(&id);
    strip(&mut context);
    let (status, code, mut output) = world.end(&id);
    strip(&mut output);
    let ids = step_ids(run).iter().map(ToString::to_string).collect();
    (json!({"status": status.as_str(), "code": code, "output": output, "context": context}), ids)
}

/// Messages of errors name child runs, whose ids hold the time.
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| key != "message");
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

#[test]
fn any_order_of_deliveries_duplicates_and_crashes_leads_to_the_same_end() {
    for seed in 0..150u64 {
        let mut maker = Maker { chance: Chance(seed), names: 0 };
        let def = json!({"id": "w", "states": maker.block(2)}).to_string();
        let (expected, ids) = end_of(&def, 1, false);
        for other in 2..6 {
            let shown = format!("definition seed {seed}, order seed {other}: {def}");
            let result = std::panic::catch_unwind(|| end_of(&def, other, true));
            let (end, other_ids) = result.unwrap_or_else(|_| panic!("{shown}"));
            assert_eq!(end, expected, "{shown}");
            assert_eq!(other_ids, ids, "{shown}: step ids depend on the order");
        }
    }
}
