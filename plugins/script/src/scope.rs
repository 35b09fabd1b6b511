//! Names that are ours among the globals.

use starlark::collections::SmallMap;
use starlark::environment::GlobalsBuilder;
use starlark::eval::Arguments;
use starlark::starlark_module;
use starlark::values::dict::{Dict, DictRef};
use starlark::values::{Heap, Value, ValueError};

use crate::record::Record;

/// `dict`, which also takes a record.
#[starlark_module]
pub fn names(builder: &mut GlobalsBuilder) {
    /// A dict of a dict, of a record, of pairs, or of named arguments.
    #[starlark(speculative_exec_safe)]
    fn dict<'v>(args: &Arguments<'v, '_>, heap: Heap<'v>) -> starlark::Result<Dict<'v>> {
        let mut map = SmallMap::new();
        let mut positions = args.positions(heap)?;
        if let Some(from) = positions.next() {
            fill(&mut map, from, heap)?;
        }
        if positions.next().is_some() {
            return Err(ValueError::IncorrectParameterType.into());
        }
        for (name, value) in args.names_map()? {
            map.insert_hashed(name.to_value().get_hashed()?, value);
        }
        Ok(Dict::new(map))
    }
}

fn fill<'v>(map: &mut SmallMap<Value<'v>, Value<'v>>, from: Value<'v>, heap: Heap<'v>) -> starlark::Result<()> {
    if let Some(dict) = DictRef::from_value(from) {
        for (key, value) in dict.iter() {
            map.insert_hashed(key.get_hashed()?, value);
        }
    } else if let Some(record) = Record::from_value(from) {
        for (key, value) in record.entries() {
            map.insert_hashed(heap.alloc(key.as_str()).get_hashed()?, value.to_value());
        }
    } else {
        for pair in from.iterate(heap)? {
            let both: Vec<Value<'v>> = pair.iterate(heap)?.collect();
            let [key, value] = both[..] else { return Err(ValueError::IncorrectParameterType.into()) };
            map.insert_hashed(key.get_hashed()?, value);
        }
    }
    Ok(())
}
