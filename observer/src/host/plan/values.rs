//! Fields, variables and rules: everything about this kernel, except its sites, that the programs and the engine need.

use observer_ebpf::{
    class,
    config::{NO_FIELD, field, value},
};
use observer_engine::{
    event::{Class, Mode as EngineMode},
    lock_class::LockClass,
    setup::{self, Role},
};

use super::{Peek, Plan, resolve::mode_number};
use crate::{
    facts::{self, Facts},
    host::{probe::Host, reason::Reason, types::Types},
};

/// Returns the lock class with this name.
pub(super) fn class(name: &str) -> Option<Class> {
    let number = class::NAMES.iter().position(|n| *n == name)?;
    Class::from_wire(number as u32)
}

/// Returns the first path of a field that this kernel has, with its position.
fn field_path<'a>(field: &'a facts::Field, types: &Types) -> Option<(&'a str, crate::host::btf::FieldAt)> {
    field.paths.iter().find_map(|p| Some((p.path.as_str(), types.field(&p.path)?)))
}

pub(super) fn plan_values(facts: &Facts, host: &Host, plan: &mut Plan) {
    plan.fields = vec![NO_FIELD; field::COUNT];
    plan.values = vec![0; value::COUNT];
    for fact in &facts.constants {
        set(plan, &fact.name, fact.value);
    }
    for fact in &facts.sizes {
        set(plan, &fact.name, host.types.size_of(&fact.r#type).unwrap_or(0));
    }
    for fact in &facts.fields {
        let number = field::NAMES.iter().position(|n| *n == fact.name);
        let (Some(i), Some((path, at))) = (number, field_path(fact, &host.types)) else {
            let paths: Vec<_> = fact.paths.iter().map(|p| p.path.as_str()).collect();
            lack(plan, &fact.name, &fact.blinds, Reason::NoField(paths.join(" or ")));
            continue;
        };
        plan.fields[i] = at.offset;
        if i == field::TABLE_PTL {
            set(plan, "ptl-is-pointer", u64::from(at.is_pointer));
        }
        if i == field::TABLE_SHARES {
            // A dedicated share count is 0 for a single user; the page's reference count, used before, is 1.
            set(plan, "share-count-alone", u64::from(path.ends_with("._refcount")));
        }
    }
    for fact in facts.marks.iter().rev() {
        let number = field::NAMES.iter().position(|n| *n == fact.name);
        let value = host.types.enumerator(&fact.r#type, &fact.enumerator);
        let (Some(i), Some(at), Some(value)) = (number, host.types.field(&fact.path), value) else {
            continue;
        };
        let page = if fact.second_page { host.types.size_of("page").unwrap_or(0) } else { 0 };
        plan.fields[i] = page + at.offset + fact.plus;
        set(plan, &fact.name, value & 0xff);
    }
    for fact in &facts.variables {
        match (host.symbols.address(&fact.symbol), fact.absent) {
            (Some(address), _) if address != 0 => {
                plan.peeks.push(Peek { name: fact.name.clone(), address, bytes: fact.bytes });
            }
            (None, Some(absent)) => set(plan, &fact.name, absent),
            _ => lack(plan, &fact.name, &fact.blinds, Reason::NoVariable(fact.symbol.clone())),
        }
    }
}

fn set(plan: &mut Plan, name: &str, v: u64) {
    if let Some(i) = value::NAMES.iter().position(|n| *n == name) {
        plan.values[i] = v;
    }
}

fn lack(plan: &mut Plan, name: &str, blinds: &[String], reason: Reason) {
    plan.blind.extend(blinds.iter().filter_map(|r| Role::from_name(r)).map(|role| (role, reason.clone())));
    plan.unknown.insert(name.to_owned(), reason);
}

pub(super) fn plan_rules(facts: &Facts, host: &Host, plan: &mut Plan) {
    let has_field =
        |name: &str| facts.fields.iter().any(|f| f.name == name && field_path(f, &host.types).is_some());
    for fact in &facts.exclusions {
        if let Some(class) = class(&fact.class) {
            let modes = fact.modes.iter().filter_map(|m| EngineMode::from_wire(mode_number(*m))).collect();
            plan.exclusions.push(setup::Exclusion { class, modes, except_unlink_sites: fact.except.clone() });
        }
    }
    for fact in &facts.orders {
        let applies =
            fact.when.as_deref().is_none_or(has_field) && !fact.when_not.as_deref().is_some_and(has_field);
        if applies {
            plan.orders.push(setup::DocumentedOrder {
                source: fact.source.clone(),
                outer_to_inner: fact.outer_to_inner.iter().filter_map(|c| class(c)).collect(),
                exceptions: fact.exceptions.iter().filter_map(exception).collect(),
            });
        }
    }
}

fn exception(fact: &facts::OrderException) -> Option<setup::OrderException> {
    Some(setup::OrderException {
        from: LockClass::from_name(&fact.from)?,
        to: LockClass::from_name(&fact.to)?,
        at: fact.at.clone(),
        reason: fact.reason.clone(),
        source: fact.source.clone(),
    })
}
