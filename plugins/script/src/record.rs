//! A JSON object as Starlark sees it: `a.b` and `a["b"]` are the same, and it otherwise reads like a dict.
//!
//! It is frozen, as data from outside always is; `dict(a)` makes a copy that can be changed. A key goes before a method of the same
//! name: `a.items` is the key where there is one, and `dict(a).items()` is always the method.
#![expect(unsafe_code, unused_qualifications, reason = "starlark's derives expand to such code")]

use std::fmt::{self, Display};
use std::sync::Arc;

use allocative::Allocative;
use serde::{Serialize, Serializer};
use starlark::collections::SmallMap;
use starlark::eval::{Arguments, Evaluator};
use starlark::starlark_simple_value;
use starlark::values::dict::{AllocDict, DictRef};
use starlark::values::tuple::AllocTuple;
use starlark::values::{
    FrozenValue, Heap, NoSerialize, ProvidesStaticType, StarlarkPagablePanic, StarlarkValue, Value, ValueError,
    starlark_value,
};

type Entries = SmallMap<String, FrozenValue>;

/// A frozen object with its keys in their order.
#[derive(Clone, Debug, ProvidesStaticType, StarlarkPagablePanic, Allocative)]
pub struct Record {
    #[allocative(skip)]
    entries: Arc<Entries>,
}

starlark_simple_value!(Record);

impl Record {
    pub fn new(entries: Entries) -> Self {
        Self { entries: Arc::new(entries) }
    }

    pub fn entries(&self) -> impl Iterator<Item = (&String, &FrozenValue)> {
        self.entries.iter()
    }

    fn get<'v>(&self, key: &str) -> Option<Value<'v>> {
        self.entries.get(key).map(|value| value.to_value())
    }
}

impl Display for Record {
    /// As a dict prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (key, value)) in self.entries.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{key:?}: {}", value.to_value().to_repr())?;
        }
        f.write_str("}")
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.entries.iter().map(|(key, value)| (key, value.to_value())))
    }
}

#[starlark_value(type = "dict")]
impl<'v> StarlarkValue<'v> for Record {
    fn to_bool(&self) -> bool {
        !self.entries.is_empty()
    }

    fn length(&self) -> starlark::Result<i32> {
        Ok(i32::try_from(self.entries.len()).unwrap_or(i32::MAX))
    }

    fn at(&self, index: Value<'v>, _: Heap<'v>) -> starlark::Result<Value<'v>> {
        index.unpack_str().and_then(|key| self.get(key)).ok_or_else(|| ValueError::KeyNotFound(index.to_repr()).into())
    }

    fn is_in(&self, other: Value<'v>) -> starlark::Result<bool> {
        Ok(other.unpack_str().is_some_and(|key| self.entries.contains_key(key)))
    }

    fn iterate_collect(&self, heap: Heap<'v>) -> starlark::Result<Vec<Value<'v>>> {
        Ok(self.entries.keys().map(|key| heap.alloc(key.as_str())).collect())
    }

    fn get_attr(&self, attribute: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        self.get(attribute)
            .or_else(|| Method::find(attribute).map(|method| heap.alloc(Bound { record: self.clone(), method })))
    }

    fn dir_attr(&self) -> Vec<String> {
        self.entries.keys().cloned().chain(Method::ALL.iter().map(|(name, _)| (*name).to_owned())).collect()
    }

    fn equals(&self, other: Value<'v>) -> starlark::Result<bool> {
        let length = |other: usize| other == self.entries.len();
        if let Some(other) = Self::from_value(other) {
            if !length(other.entries.len()) {
                return Ok(false);
            }
            for (key, value) in self.entries.iter() {
                match other.get(key) {
                    Some(theirs) if value.to_value().equals(theirs)? => {}
                    _ => return Ok(false),
                }
            }
            return Ok(true);
        }
        let Some(other) = DictRef::from_value(other) else { return Ok(false) };
        if !length(other.len()) {
            return Ok(false);
        }
        for (key, value) in self.entries.iter() {
            match other.get_str(key) {
                Some(theirs) if value.to_value().equals(theirs)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// `record | other` is a new dict, as with dicts.
    fn bit_or(&self, other: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        let mut map: SmallMap<Value<'v>, Value<'v>> = SmallMap::new();
        for (key, value) in self.entries.iter() {
            map.insert_hashed(heap.alloc(key.as_str()).get_hashed()?, value.to_value());
        }
        if let Some(other) = Self::from_value(other) {
            for (key, value) in other.entries.iter() {
                map.insert_hashed(heap.alloc(key.as_str()).get_hashed()?, value.to_value());
            }
        } else if let Some(other) = DictRef::from_value(other) {
            for (key, value) in other.iter() {
                map.insert_hashed(key.get_hashed()?, value);
            }
        } else {
            return ValueError::unsupported_with(self, "|", other);
        }
        Ok(heap.alloc(AllocDict(map)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Get,
    Keys,
    Values,
    Items,
}

impl Method {
    const ALL: [(&'static str, Self); 4] =
        [("get", Self::Get), ("keys", Self::Keys), ("values", Self::Values), ("items", Self::Items)];

    fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, method)| *method)
    }
}

/// A method with its record: `a.keys` before it is called.
#[derive(Debug, ProvidesStaticType, NoSerialize, StarlarkPagablePanic, Allocative)]
struct Bound {
    record: Record,
    #[allocative(skip)]
    method: Method,
}

starlark_simple_value!(Bound);

impl Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Method::ALL.iter().find(|(_, method)| *method == self.method).map_or("", |(name, _)| name);
        write!(f, "<method {name}>")
    }
}

#[starlark_value(type = "native_function")]
impl<'v> StarlarkValue<'v> for Bound {
    fn invoke(
        &self,
        _: Value<'v>,
        args: &Arguments<'v, '_>,
        evaluator: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let heap = evaluator.heap();
        args.no_named_args()?;
        let given: Vec<Value<'v>> = args.positions(heap)?.collect();
        let entries = &self.record.entries;
        match (self.method, given.as_slice()) {
            (Method::Get, [key]) => {
                Ok(key.unpack_str().and_then(|key| self.record.get(key)).unwrap_or_else(Value::new_none))
            }
            (Method::Get, [key, default]) => {
                Ok(key.unpack_str().and_then(|key| self.record.get(key)).unwrap_or(*default))
            }
            (Method::Keys, []) => Ok(heap.alloc(self.record.iterate_collect(heap)?)),
            (Method::Values, []) => Ok(heap.alloc(entries.values().map(|value| value.to_value()).collect::<Vec<_>>())),
            (Method::Items, []) => {
                let pairs = entries
                    .iter()
                    .map(|(key, value)| heap.alloc(AllocTuple([heap.alloc(key.as_str()), value.to_value()])));
                Ok(heap.alloc(pairs.collect::<Vec<_>>()))
            }
            _ => Err(ValueError::IncorrectParameterTypeNamed(format!("{self} with {} arguments", given.len())).into()),
        }
    }
}
