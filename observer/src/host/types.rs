//! The kernel's types as the plan asks for them: out of its BTF, or out of what was saved of it.

use std::collections::BTreeMap;

use super::btf::{Btf, FieldAt, Signature};

/// Where answers come from.
pub enum Types {
    Btf(Btf),
    Saved {
        functions: BTreeMap<String, Signature>,
        fields: BTreeMap<String, FieldAt>,
        sizes: BTreeMap<String, u64>,
        /// By `type.enumerator`.
        enumerators: BTreeMap<String, u64>,
    },
}

impl Types {
    /// Signature of a function; `None`: none of that name.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<Signature> {
        match self {
            Types::Btf(btf) => btf.function(name),
            Types::Saved { functions, .. } => functions.get(name).cloned(),
        }
    }

    /// Where `type.field.field` lies.
    #[must_use]
    pub fn field(&self, path: &str) -> Option<FieldAt> {
        match self {
            Types::Btf(btf) => btf.field(path),
            Types::Saved { fields, .. } => fields.get(path).copied(),
        }
    }

    /// Bytes of a struct or union.
    #[must_use]
    pub fn size_of(&self, name: &str) -> Option<u64> {
        match self {
            Types::Btf(btf) => btf.size_of(name),
            Types::Saved { sizes, .. } => sizes.get(name).copied(),
        }
    }

    /// Value of an enumerator.
    #[must_use]
    pub fn enumerator(&self, ty: &str, name: &str) -> Option<u64> {
        match self {
            Types::Btf(btf) => btf.enumerator(ty, name),
            Types::Saved { enumerators, .. } => enumerators.get(&format!("{ty}.{name}")).copied(),
        }
    }
}
