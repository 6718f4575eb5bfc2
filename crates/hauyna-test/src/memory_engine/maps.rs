//! The maps of the engine in memory, and who holds leases on their fields. Pure data; it takes the time as an
//! argument.

use bytes::Bytes;
use hauyna::broker::{
    Change, Epoch, Field, Lease, MapChange, MapName, MapPage, MapRange, MapVersion, NodeId, Only, Put,
};
use std::collections::BTreeMap;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Maps {
    maps: BTreeMap<MapName, Map>,
}

#[derive(Debug)]
struct Map {
    version: MapVersion,
    fields: BTreeMap<Field, Entry>,
    /// Number of fields of each class.
    classes: BTreeMap<Box<str>, u64>,
}

#[derive(Debug, Clone)]
struct Entry {
    value: Bytes,
    owner: Option<NodeId>,
    ends: Option<Instant>,
}

/// What a call did, and the change to relay if it did something.
pub(super) type Applied = (Change, Option<MapChange>);

impl Map {
    fn new(epoch: Epoch) -> Self {
        Self { version: MapVersion { epoch, number: 0 }, fields: BTreeMap::new(), classes: BTreeMap::new() }
    }

    fn insert(&mut self, field: &Field, entry: Entry) {
        if self.fields.insert(field.clone(), entry).is_none() {
            *self.classes.entry(field.class.clone()).or_default() += 1;
        }
    }

    fn remove(&mut self, field: &Field) -> Option<Bytes> {
        let removed = self.fields.remove(field)?;
        if let Some(count) = self.classes.get_mut(&field.class) {
            *count -= 1;
            if *count == 0 {
                self.classes.remove(&field.class);
            }
        }
        Some(removed.value)
    }

    fn answer(&self, field: &Field, is_applied: bool, before: Option<Bytes>) -> Change {
        let class_size = self.classes.get(&field.class).copied().unwrap_or_default();
        Change::new(is_applied, before, self.classes.len() as u64, class_size, self.version)
    }
}

impl Maps {
    pub(super) fn put(&mut self, put: Put, owner: NodeId, now: Instant, epoch: Epoch) -> Applied {
        let map = self.maps.entry(put.map.clone()).or_insert_with(|| Map::new(epoch));
        let before = map.fields.get(&put.field).cloned();
        let (owner, ends) = match put.lease {
            Lease::Kept => (None, None),
            Lease::OfNode => (Some(owner), None),
            Lease::For(time) => (None, Some(now + time)),
        };
        let is_met = match put.only {
            Only::Always => true,
            Only::Absent => before.is_none(),
            Only::Version(version) => version == map.version,
        };
        let is_there = put.instead_of.as_ref().is_none_or(|other| map.fields.contains_key(other));
        let is_same =
            before.as_ref().is_some_and(|before| before.value == put.value && before.owner == owner);
        let old_value = before.map(|before| before.value);
        if !is_met || !is_there || (is_same && put.instead_of.is_none()) {
            if let (true, Some(entry)) = (is_met && is_there, map.fields.get_mut(&put.field)) {
                entry.ends = ends; // a repetition renews the lease
            }
            let change = map.answer(&put.field, false, old_value);
            self.drop_if_untouched(&put.map);
            return (change, None);
        }
        if let Some(other) = &put.instead_of {
            map.remove(other);
        }
        map.insert(&put.field, Entry { value: put.value.clone(), owner, ends });
        map.version.number += 1;
        let relayed = MapChange::new(put.field.clone(), Some(put.value), put.instead_of, map.version);
        (map.answer(&put.field, true, old_value), Some(relayed))
    }

    pub(super) fn remove(&mut self, name: &MapName, field: &Field, epoch: Epoch) -> Applied {
        let Some(map) = self.maps.get_mut(name) else {
            return (Map::new(epoch).answer(field, false, None), None);
        };
        let Some(before) = map.remove(field) else { return (map.answer(field, false, None), None) };
        map.version.number += 1;
        let relayed = MapChange::new(field.clone(), None, None, map.version);
        (map.answer(field, true, Some(before)), Some(relayed))
    }

    pub(super) fn read(&self, name: &MapName, range: &MapRange, epoch: Epoch) -> MapPage {
        let Some(map) = self.maps.get(name) else {
            return MapPage::new(MapVersion { epoch, number: 0 }, 0, Vec::new(), false);
        };
        let is_wanted = |field: &Field| {
            range.class.as_ref().is_none_or(|class| field.class == *class)
                && range.after.as_ref().is_none_or(|after| field > after)
        };
        let mut wanted = map.fields.iter().filter(|(field, _)| is_wanted(field));
        let fields = wanted.by_ref().take((range.limit as usize).min(MAX_PAGE));
        let fields: Vec<_> = fields.map(|(field, entry)| (field.clone(), entry.value.clone())).collect();
        MapPage::new(map.version, map.classes.len() as u64, fields, wanted.next().is_some())
    }

    pub(super) fn names(&self, kind: &str, after: Option<&MapName>, limit: usize) -> Vec<MapName> {
        let names = self.maps.iter().filter(|(name, map)| name.kind() == kind && !map.fields.is_empty());
        names
            .map(|(name, _)| name)
            .filter(|name| after.is_none_or(|after| *name > after))
            .take(limit)
            .cloned()
            .collect()
    }

    /// Removes fields whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(MapName, MapChange)> {
        self.remove_where(usize::MAX, |entry| entry.ends.is_some_and(|ends| ends <= now))
            .0
            .into_iter()
            .map(|(name, _, relayed)| (name, relayed))
            .collect()
    }

    /// Removes up to `limit` fields of a node; returns whether it has more.
    pub(super) fn sweep(&mut self, node: NodeId, limit: usize) -> (Vec<(MapName, Change, MapChange)>, bool) {
        self.remove_where(limit, |entry| entry.owner == Some(node))
    }

    pub(super) fn has_fields_of(&self, node: NodeId) -> bool {
        self.maps.values().any(|map| map.fields.values().any(|entry| entry.owner == Some(node)))
    }

    fn remove_where(
        &mut self,
        limit: usize,
        is_over: impl Fn(&Entry) -> bool,
    ) -> (Vec<(MapName, Change, MapChange)>, bool) {
        let mut removed = Vec::new();
        for (name, map) in &mut self.maps {
            let over: Vec<Field> = map
                .fields
                .iter()
                .filter(|(_, entry)| is_over(entry))
                .map(|(field, _)| field.clone())
                .collect();
            for field in over {
                if removed.len() == limit {
                    return (removed, true);
                }
                let before = map.remove(&field);
                map.version.number += 1;
                let relayed = MapChange::new(field.clone(), None, None, map.version);
                removed.push((name.clone(), map.answer(&field, true, before), relayed));
            }
        }
        (removed, false)
    }

    /// Forgets a map that no put has changed, so that a refused put leaves nothing.
    fn drop_if_untouched(&mut self, name: &MapName) {
        if self.maps.get(name).is_some_and(|map| map.version.number == 0) {
            self.maps.remove(name);
        }
    }

    pub(super) fn clear(&mut self) {
        self.maps.clear();
    }
}

/// Maximum number of fields in a page.
const MAX_PAGE: usize = 500;
