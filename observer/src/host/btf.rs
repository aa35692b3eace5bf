//! A BTF reader for what the facts need: functions with their parameters, field paths, sizes.
//!
//! aya's parser does not expose the types. Format: Documentation/bpf/btf.rst. All accesses are checked: a malformed file is
//! an error, never a panic.

#[cfg(test)]
pub mod build;

use std::collections::HashMap;

use super::read_at_most;

/// Longest file that is read: a kernel's types take 4 to 10 MB.
const BYTES_MAX: u64 = 256 << 20;

/// Error from reading BTF.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}")]
    Read { path: String, source: std::io::Error },
    #[error("not a little-endian BTF file: {0}")]
    Format(&'static str),
}

#[derive(Clone, Copy, Debug)]
struct Type {
    name: u32,
    kind: u8,
    kind_flag: bool,
    vlen: u32,
    /// Size in bytes or type id, depending on the kind.
    size_or_type: u32,
    /// Offset in the data of the record that follows the type.
    extra: usize,
}

mod kind {
    pub const PTR: u8 = 2;
    pub const ARRAY: u8 = 3;
    pub const STRUCT: u8 = 4;
    pub const UNION: u8 = 5;
    pub const ENUM: u8 = 6;
    pub const TYPEDEF: u8 = 8;
    pub const VOLATILE: u8 = 9;
    pub const CONST: u8 = 10;
    pub const RESTRICT: u8 = 11;
    pub const FUNC: u8 = 12;
    pub const FUNC_PROTO: u8 = 13;
    pub const TYPE_TAG: u8 = 18;
}

/// Types of one kernel, parsed from its BTF.
pub struct Btf {
    data: Vec<u8>,
    strings_at: usize,
    types: Vec<Type>,
    functions: HashMap<String, u32>,
    structs: HashMap<String, Vec<u32>>,
    enums: HashMap<String, u32>,
}

/// One parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    pub name: String,
    /// Type name: `name *` for a pointer to `name`, otherwise the name of the type.
    pub ty: String,
    pub bytes: u32,
    /// True for a struct or union passed by value: the trampoline refuses it on some kernels.
    pub by_value_struct: bool,
}

/// Signature of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub params: Vec<Param>,
    /// Size of the return value in bytes, 0 for void.
    pub ret_bytes: u32,
}

/// Position of a field in its outermost type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldAt {
    /// Bytes from the start of the outermost type.
    pub offset: u64,
    pub bytes: u32,
    pub is_pointer: bool,
}

impl Btf {
    /// Reads a BTF file, such as `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// The file is unreadable or malformed: see [`Error`].
    pub fn read(path: &str) -> Result<Btf, Error> {
        let data =
            read_at_most(path, BYTES_MAX).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Btf::parse(data)
    }

    /// Parses the contents of a BTF file.
    ///
    /// # Errors
    /// Malformed data: [`Error::Format`].
    pub fn parse(data: Vec<u8>) -> Result<Btf, Error> {
        let u32_at = |at: usize| -> Result<u32, Error> {
            let b = data.get(at..at + 4).ok_or(Error::Format("truncated header"))?;
            Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        };
        if data.get(0..3) != Some(&[0x9f, 0xeb, 1]) {
            return Err(Error::Format("wrong magic or version"));
        }
        let header = u32_at(4)? as usize;
        let types_at = header + u32_at(8)? as usize;
        let types_end = types_at + u32_at(12)? as usize;
        let strings_at = header + u32_at(16)? as usize;
        let strings_end = strings_at + u32_at(20)? as usize;
        if types_end > data.len() || strings_end > data.len() {
            return Err(Error::Format("sections beyond the end"));
        }
        let void = Type { name: 0, kind: 0, kind_flag: false, vlen: 0, size_or_type: 0, extra: 0 };
        let mut btf = Btf {
            data,
            strings_at,
            types: vec![void],
            functions: HashMap::new(),
            structs: HashMap::new(),
            enums: HashMap::new(),
        };
        let mut at = types_at;
        while at < types_end {
            at = btf.parse_type(at).ok_or(Error::Format("malformed type"))?;
        }
        for (id, ty) in btf.types.iter().enumerate() {
            let id = id as u32;
            match ty.kind {
                kind::FUNC => {
                    btf.functions.entry(btf.string(ty.name).to_owned()).or_insert(id);
                }
                kind::STRUCT | kind::UNION => {
                    btf.structs.entry(btf.string(ty.name).to_owned()).or_default().push(id);
                }
                kind::ENUM => {
                    btf.enums.entry(btf.string(ty.name).to_owned()).or_insert(id);
                }
                _ => {}
            }
        }
        Ok(btf)
    }

    fn word(&self, at: usize) -> Option<u32> {
        let b = self.data.get(at..at + 4)?;
        Some(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn parse_type(&mut self, at: usize) -> Option<usize> {
        let info = self.word(at + 4)?;
        let ty = Type {
            name: self.word(at)?,
            kind: (info >> 24 & 0x1f) as u8,
            kind_flag: info >> 31 == 1,
            vlen: info & 0xffff,
            size_or_type: self.word(at + 8)?,
            extra: at + 12,
        };
        let vlen = ty.vlen as usize;
        let extra = match ty.kind {
            1 | 14 | 17 => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | 15 | 19 => 12 * vlen,
            kind::ENUM | kind::FUNC_PROTO => 8 * vlen,
            2 | 7..=12 | 16 | 18 => 0,
            _ => return None,
        };
        self.types.push(ty);
        Some(at + 12 + extra)
    }

    fn string(&self, at: u32) -> &str {
        let from = self.strings_at + at as usize;
        let bytes = self.data.get(from..).unwrap_or_default();
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(0);
        std::str::from_utf8(&bytes[..end]).unwrap_or("")
    }

    /// Follows typedefs and qualifiers. Bounded, because malformed input may contain loops.
    fn resolve(&self, mut id: u32) -> Option<(u32, Type)> {
        for _ in 0..32 {
            let ty = *self.types.get(id as usize)?;
            match ty.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = ty.size_or_type
                }
                _ => return Some((id, ty)),
            }
        }
        None
    }

    fn bytes_of(&self, id: u32) -> u32 {
        match self.resolve(id) {
            Some((_, ty)) if ty.kind == kind::PTR => 8,
            Some((_, ty)) if ty.kind == kind::ARRAY => {
                let (element, count) = (self.word(ty.extra), self.word(ty.extra + 8));
                match (element, count) {
                    (Some(element), Some(count)) if element != id => {
                        self.bytes_of(element).saturating_mul(count)
                    }
                    _ => 0,
                }
            }
            Some((_, ty)) if matches!(ty.kind, kind::FUNC | kind::FUNC_PROTO | 0) => 0,
            Some((_, ty)) => ty.size_or_type,
            None => 0,
        }
    }

    fn name_of(&self, id: u32) -> String {
        match self.resolve(id) {
            Some((_, ty)) if ty.kind == kind::PTR => match self.resolve(ty.size_or_type) {
                Some((_, target)) => format!("{} *", self.string(target.name)),
                None => "*".to_owned(),
            },
            Some((_, ty)) => self.string(ty.name).to_owned(),
            None => String::new(),
        }
    }

    /// Returns the signature of a function; `None` if BTF does not have it.
    pub fn function(&self, name: &str) -> Option<Signature> {
        let func = self.types.get(*self.functions.get(name)? as usize)?;
        let proto = self.types.get(func.size_or_type as usize)?;
        if proto.kind != kind::FUNC_PROTO {
            return None;
        }
        let mut params = Vec::new();
        for i in 0..proto.vlen as usize {
            let (name, ty) = (self.word(proto.extra + 8 * i)?, self.word(proto.extra + 8 * i + 4)?);
            let by_value_struct =
                self.resolve(ty).is_some_and(|(_, t)| matches!(t.kind, kind::STRUCT | kind::UNION));
            params.push(Param {
                name: self.string(name).to_owned(),
                ty: self.name_of(ty),
                bytes: self.bytes_of(ty),
                by_value_struct,
            });
        }
        let ret_bytes = if proto.size_or_type == 0 { 0 } else { self.bytes_of(proto.size_or_type) };
        Some(Signature { params, ret_bytes })
    }

    /// Returns the size of a struct or union in bytes. If types of one name differ, returns the largest, which may be wrong.
    pub fn size_of(&self, name: &str) -> Option<u64> {
        let ids = self.structs.get(name)?;
        ids.iter().map(|id| u64::from(self.types[*id as usize].size_or_type)).max()
    }

    /// Returns the value of an enumerator of an enum with 32-bit values.
    pub fn enumerator(&self, ty: &str, name: &str) -> Option<u64> {
        let ty = self.types.get(*self.enums.get(ty)? as usize)?;
        (0..ty.vlen as usize).find_map(|i| {
            let (at, value) = (self.word(ty.extra + 8 * i)?, self.word(ty.extra + 8 * i + 4)?);
            (self.string(at) == name).then_some(u64::from(value))
        })
    }

    /// Returns the position of `type.field.field`, looking through anonymous structs and unions on the path.
    pub fn field(&self, path: &str) -> Option<FieldAt> {
        let (outer, rest) = path.split_once('.')?;
        // If two types share a name, use the first that has the whole path.
        self.structs.get(outer)?.iter().find_map(|id| {
            let (mut id, mut offset) = (*id, 0);
            for name in rest.split('.') {
                let (member, at) = self.member(id, name, 8)?;
                offset += at;
                id = member;
            }
            let is_pointer = self.resolve(id).is_some_and(|(_, t)| t.kind == kind::PTR);
            Some(FieldAt { offset, bytes: self.bytes_of(id), is_pointer })
        })
    }

    /// Returns type id and byte offset of a member, searching anonymous members down to `depth` levels.
    fn member(&self, id: u32, name: &str, depth: u32) -> Option<(u32, u64)> {
        let (_, ty) = self.resolve(id)?;
        if !matches!(ty.kind, kind::STRUCT | kind::UNION) || depth == 0 {
            return None;
        }
        for i in 0..ty.vlen as usize {
            let at = ty.extra + 12 * i;
            let (member_name, member, bits) = (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
            let bits = if ty.kind_flag { bits & 0x00ff_ffff } else { bits };
            let offset = u64::from(bits / 8);
            let member_name = self.string(member_name);
            if member_name == name {
                return Some((member, offset));
            }
            if member_name.is_empty()
                && let Some((found, inner)) = self.member(member, name, depth - 1)
            {
                return Some((found, offset + inner));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_and_cut_files_are_errors() {
        assert!(matches!(Btf::parse(vec![]), Err(Error::Format(_))));
        assert!(matches!(Btf::parse(b"\x7fELF....".to_vec()), Err(Error::Format(_))));
        let mut header = vec![0x9f, 0xeb, 1, 0];
        for n in [24u32, 0, 4096, 4096, 1] {
            header.extend(n.to_le_bytes());
        }
        assert!(matches!(Btf::parse(header), Err(Error::Format(_))));
    }

    #[test]
    fn the_btf_of_the_running_kernel_is_read() {
        let Ok(btf) = Btf::read("/sys/kernel/btf/vmlinux") else { return };
        let pid = btf.field("task_struct.pid").unwrap();
        assert_eq!(pid.bytes, 4);
        assert!(btf.field("task_struct.mm").unwrap().is_pointer);
        assert!(btf.size_of("task_struct").unwrap() > pid.offset);
        let read = btf.function("vfs_read").unwrap();
        assert_eq!(read.params[0].ty, "file *");
        assert_eq!(read.ret_bytes, 8);
        assert_eq!(btf.field("task_struct.no_such"), None);
        assert_eq!(btf.function("no_such_function"), None);
        assert!(btf.enumerator("pageflags", "PG_active").unwrap() > 0);
        assert_eq!(btf.enumerator("pageflags", "PG_locked"), Some(0));
        assert_eq!(btf.enumerator("pageflags", "no_such"), None);
    }
}
