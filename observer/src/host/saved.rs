//! The part of a kernel that the facts need, in one small file. `doctor --save` writes it and `doctor --from` reads it on any
//! machine. Tests run the plan on it instead of booting five kernels.
//!
//! Other types and symbols, and all addresses, are left out. The kernel's answers to attempts to attach are kept.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    facts::Facts,
    hint::Hint as _,
    host::{
        btf::{FieldAt, Param, Signature},
        callers::Callers,
        plan::Failure,
        probe::Host,
        read_at_most,
        symbols::Symbols,
        types::Types,
    },
    meta::Kernel,
    printable,
};

const SCHEMA: &str = "observer-kernel/1";
/// Longest file that is read: a saved kernel has some ten thousand bytes.
const BYTES_MAX: u64 = 16 << 20;

/// Content of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    schema: String,
    pub kernel: Kernel,
    /// Signatures in BTF, as C would write them without the function's name; `null` if BTF does not have the function.
    functions: BTreeMap<String, Option<Function>>,
    fields: BTreeMap<String, Option<Field>>,
    /// Sizes of types in bytes.
    sizes: BTreeMap<String, Option<u64>>,
    /// Enumerator values by `type.enumerator`.
    enumerators: BTreeMap<String, Option<u64>>,
    /// Symbols that the facts need and the kernel has, including compiler-made names. The value is a function's size in
    /// bytes, 0 if unknown.
    symbols: BTreeMap<String, u64>,
    /// True if the symbol table hid its addresses.
    addresses_hidden: bool,
    /// Symbols that cannot be traced; `null` if the kernel did not show the list.
    untraceable: Option<BTreeSet<String>>,
    /// Callers of the lookup functions; `null` if the kernel did not show its text.
    #[serde(default)]
    callers: Option<Callers>,
    /// Configuration options that the facts need; `null` if the configuration was not found.
    config: Option<BTreeMap<String, bool>>,
    /// Attempts that the kernel refused; `null` if it was not asked.
    refused: Option<Vec<Answer>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Function {
    params: Vec<Parameter>,
    ret_bytes: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameter {
    name: String,
    r#type: String,
    bytes: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    by_value_struct: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Field {
    offset: u64,
    bytes: u32,
    is_pointer: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    attempt: String,
    error: String,
}

/// CRC-32 of a saved kernel without its checksum, hexadecimal.
fn checksum_of(value: &Value) -> String {
    format!("{:08x}", crc32fast::hash(value.to_string().as_bytes()))
}

impl Saved {
    /// Saves what the facts need of a kernel, and its answers to attempts to attach if it was asked.
    #[must_use]
    pub fn of(facts: &Facts, host: &Host, refused: Option<&[Failure]>) -> Saved {
        let sites = || facts.sites.iter();
        let tracepoints = || sites().map(|s| &s.tracepoint).filter(|t| !t.is_empty());
        let named = || sites().map(|s| s.function.clone()).chain(sites().filter_map(|s| s.until.clone()));
        let functions = named().filter(|f| !f.is_empty());
        let functions = functions.chain(tracepoints().map(|t| format!("__bpf_trace_{t}")));
        let paths = facts.fields.iter().flat_map(|f| &f.paths).map(|p| p.path.clone());
        let paths = paths.chain(facts.marks.iter().map(|m| m.path.clone()));
        let sizes = facts.sizes.iter().map(|s| s.r#type.clone());
        let sizes = sizes.chain(tracepoints().map(|t| format!("trace_event_raw_{t}")));
        let sizes = sizes.chain(sites().filter_map(|s| s.unless_type.clone()));
        let unless = sites().flat_map(|s| s.unless.iter().flat_map(|u| u.split('|')));
        let also = sites().flat_map(|s| s.looks_up.iter().filter_map(|l| l.unless.as_deref()));
        let also = also.chain(sites().flat_map(|s| s.unlinks.iter().filter_map(|u| u.unless.as_deref())));
        let asked = named().chain(facts.variables.iter().map(|v| v.symbol.clone()));
        let asked = asked.chain(tracepoints().map(|t| format!("__tracepoint_{t}")));
        let alternatives = unless.chain(also.flat_map(|names| names.split('|'))).map(str::to_owned);
        let asked = asked.chain(alternatives).filter(|name| !name.is_empty());
        let there = asked.filter_map(|name| host.symbols.with_suffix(&name).map(str::to_owned));
        let symbols: BTreeMap<String, u64> =
            there.map(|s| (s.clone(), host.symbols.bytes(&s).unwrap_or(0))).collect();
        let options = sites().filter_map(|s| s.config.clone());
        Saved {
            schema: SCHEMA.to_owned(),
            kernel: host.kernel.clone(),
            functions: functions.map(|f| (f.clone(), host.types.function(&f).map(Function::from))).collect(),
            fields: paths.map(|p| (p.clone(), host.types.field(&p).map(Field::from))).collect(),
            sizes: sizes.map(|s| (s.clone(), host.types.size_of(&s))).collect(),
            enumerators: facts
                .marks
                .iter()
                .map(|m| {
                    let value = host.types.enumerator(&m.r#type, &m.enumerator);
                    (format!("{}.{}", m.r#type, m.enumerator), value)
                })
                .collect(),
            addresses_hidden: host.symbols.are_hidden(),
            untraceable: host
                .traceable
                .as_ref()
                .map(|all| symbols.keys().filter(|s| !all.contains(*s)).cloned().collect()),
            symbols,
            callers: host.callers.clone(),
            config: host
                .config
                .as_ref()
                .map(|_| options.filter_map(|o| Some((o.clone(), host.config_has(&o)?))).collect()),
            refused: refused.map(|all| {
                all.iter().map(|f| Answer { attempt: f.attempt.clone(), error: f.error.clone() }).collect()
            }),
        }
    }

    /// Returns the text of the file, with a checksum.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn text(&self) -> serde_json::Result<String> {
        let mut value = serde_json::to_value(self)?;
        let checksum = checksum_of(&value);
        if let Some(all) = value.as_object_mut() {
            all.insert("checksum".into(), checksum.into());
        }
        Ok(serde_json::to_string_pretty(&value)? + "\n")
    }

    /// Reads a saved kernel from a file.
    ///
    /// # Errors
    /// The file cannot be read, or is not a saved kernel.
    pub fn read(path: &str) -> anyhow::Result<Saved> {
        const HINT: &str =
            "a file that `observer doctor --save FILE` wrote; for a kernel's BTF use --btf and --symbols";
        let text = read_at_most(path, BYTES_MAX).with_context(|| format!("cannot read {path}"))?;
        let value = serde_json::from_slice(&text).with_context(|| format!("{path} is not a saved kernel"));
        let mut value: Value = value.hint(HINT)?;
        if let Some(checksum) = value.as_object_mut().and_then(|all| all.remove("checksum"))
            && checksum != checksum_of(&value)
        {
            bail!("{path} is damaged: its checksum does not match");
        }
        let saved: Saved = serde_json::from_value(printable::value(value))
            .with_context(|| format!("{path} is not a saved kernel"))
            .hint(HINT)?;
        if saved.schema != SCHEMA {
            bail!("{path} is of schema {:?}, this observer reads {SCHEMA:?}", saved.schema);
        }
        Ok(saved)
    }

    /// Removes a function, under any suffix that the compiler gave it.
    pub fn forget(&mut self, function: &str) {
        self.symbols.retain(|symbol, _| symbol.split('.').next() != Some(function));
        self.functions.remove(function);
    }

    /// Renames a function's arguments, to imitate a changed function.
    pub fn rename_arguments(&mut self, function: &str) {
        for parameter in self.functions.get_mut(function).into_iter().flatten().flat_map(|f| &mut f.params) {
            parameter.name.push_str("_of_another_kernel");
        }
    }

    /// Gives a function another name and these parameters (name and type).
    pub fn rename(&mut self, function: &str, name: &str, parameters: &[(&str, &str)]) {
        let bytes = self.symbols.get(function).copied().unwrap_or(0);
        self.forget(function);
        let param = |&(name, ty): &(&str, &str)| Parameter {
            name: name.to_owned(),
            r#type: ty.to_owned(),
            bytes: 8,
            by_value_struct: false,
        };
        let params = parameters.iter().map(param).collect();
        self.functions.insert(name.to_owned(), Some(Function { params, ret_bytes: 4 }));
        self.symbols.insert(name.to_owned(), bytes);
        if let Some(refused) = &mut self.untraceable {
            refused.remove(name);
        }
    }

    /// Returns the callers of the lookup functions; `None` if the kernel did not show its text.
    #[must_use]
    pub fn callers(&self) -> Option<&Callers> {
        self.callers.as_ref()
    }

    /// Returns the attempts that the kernel refused; `None` if it was not asked.
    #[must_use]
    pub fn refused(&self) -> Option<Vec<Failure>> {
        let all = self.refused.as_ref()?;
        Some(all.iter().map(|a| Failure { attempt: a.attempt.clone(), error: a.error.clone() }).collect())
    }

    /// Returns the saved kernel as a host. Facts added after the file was written find nothing in it.
    #[must_use]
    pub fn host(&self) -> Host {
        let types = Types::Saved {
            functions: known(&self.functions, |f| Signature::from(f.clone())),
            fields: known(&self.fields, |f| FieldAt::from(*f)),
            sizes: known(&self.sizes, |s| *s),
            enumerators: known(&self.enumerators, |n| *n),
        };
        // Nothing is attached, so any addresses work if the distances are right.
        let mut address = if self.addresses_hidden { 0 } else { 0xffff_ffff_8100_0000_u64 };
        let mut table = String::new();
        for (symbol, bytes) in &self.symbols {
            table.push_str(&format!("{address:016x} T {symbol}\n"));
            if !self.addresses_hidden {
                address += if *bytes == 0 { 1 << 20 } else { *bytes };
            }
        }
        table.push_str(&format!("{address:016x} T _etext\n"));
        let mut host = Host::of(self.kernel.clone(), types, Symbols::parse(&table));
        host.traceable = self
            .untraceable
            .as_ref()
            .map(|not| self.symbols.keys().filter(|s| !not.contains(*s)).cloned().collect());
        host.callers = self.callers.clone();
        host.config = self.config.as_ref().map(|options| {
            options
                .iter()
                .map(|(o, set)| if *set { format!("{o}=y\n") } else { format!("# {o} is not set\n") })
                .collect()
        });
        host
    }
}

fn known<T, U>(all: &BTreeMap<String, Option<T>>, convert: impl Fn(&T) -> U) -> BTreeMap<String, U> {
    all.iter().filter_map(|(name, there)| Some((name.clone(), convert(there.as_ref()?)))).collect()
}

impl From<Signature> for Function {
    fn from(s: Signature) -> Function {
        let param = |p: Param| Parameter {
            name: p.name,
            r#type: p.ty,
            bytes: p.bytes,
            by_value_struct: p.by_value_struct,
        };
        Function { params: s.params.into_iter().map(param).collect(), ret_bytes: s.ret_bytes }
    }
}

impl From<Function> for Signature {
    fn from(f: Function) -> Signature {
        let param = |p: Parameter| Param {
            name: p.name,
            ty: p.r#type,
            bytes: p.bytes,
            by_value_struct: p.by_value_struct,
        };
        Signature { params: f.params.into_iter().map(param).collect(), ret_bytes: f.ret_bytes }
    }
}

impl From<FieldAt> for Field {
    fn from(f: FieldAt) -> Field {
        Field { offset: f.offset, bytes: f.bytes, is_pointer: f.is_pointer }
    }
}

impl From<Field> for FieldAt {
    fn from(f: Field) -> FieldAt {
        FieldAt { offset: f.offset, bytes: f.bytes, is_pointer: f.is_pointer }
    }
}
