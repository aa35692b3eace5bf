//! The kernel's types, read from its BTF or from a saved kernel.

use std::collections::BTreeMap;

use super::btf::{Btf, FieldAt, Signature};

/// Source of the types.
pub enum Types {
    Btf(Btf),
    Saved {
        functions: BTreeMap<String, Signature>,
        fields: BTreeMap<String, FieldAt>,
        sizes: BTreeMap<String, u64>,
        /// Enumerator values by `type.enumerator`.
        enumerators: BTreeMap<String, u64>,
    },
}

impl Types {
    /// Returns the signature of a function; `None` if the kernel does not have it.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<Signature> {
        match self {
            Types::Btf(btf) => btf.function(name),
            Types::Saved { functions, .. } => functions.get(name).cloned(),
        }
    }

    /// Returns the position of `type.field.field`.
    #[must_use]
    pub fn field(&self, path: &str) -> Option<FieldAt> {
        match self {
            Types::Btf(btf) => btf.field(path),
            Types::Saved { fields, .. } => fields.get(path).copied(),
        }
    }

    /// Returns the size of a struct or union in bytes.
    #[must_use]
    pub fn size_of(&self, name: &str) -> Option<u64> {
        match self {
            Types::Btf(btf) => btf.size_of(name),
            Types::Saved { sizes, .. } => sizes.get(name).copied(),
        }
    }

    /// Returns the value of an enumerator.
    #[must_use]
    pub fn enumerator(&self, ty: &str, name: &str) -> Option<u64> {
        match self {
            Types::Btf(btf) => btf.enumerator(ty, name),
            Types::Saved { enumerators, .. } => enumerators.get(&format!("{ty}.{name}")).copied(),
        }
    }
}
