//! Builds small BTF for tests: structs with 8-byte fields, functions whose parameters point to them.

use super::Btf;

/// A BTF file under construction.
#[derive(Default)]
pub struct Build {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Build {
    fn string(&mut self, s: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        let at = self.strings.len() as u32;
        self.strings.extend(s.bytes());
        self.strings.push(0);
        at
    }

    fn push(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|w| w.to_le_bytes()));
    }

    fn ty(&mut self, name: u32, kind: u32, vlen: u32, size_or_type: u32) -> u32 {
        self.push(&[name, kind << 24 | vlen, size_or_type]);
        self.count += 1;
        self.count
    }

    fn long(&mut self) -> u32 {
        let name = self.string("long unsigned int");
        let id = self.ty(name, 1, 0, 8);
        self.push(&[64]);
        id
    }

    /// Adds a struct of 8-byte fields and returns its id.
    pub fn record(&mut self, name: &str, fields: &[&str]) -> u32 {
        let long = self.long();
        let names: Vec<u32> = fields.iter().map(|f| self.string(f)).collect();
        let name = self.string(name);
        let id = self.ty(name, 4, fields.len() as u32, 8 * fields.len() as u32);
        for (i, field) in names.into_iter().enumerate() {
            self.push(&[field, long, 64 * i as u32]);
        }
        id
    }

    /// Adds a function that returns 8 bytes. A parameter is its name and the struct it points to, "" for a number.
    pub fn function(&mut self, name: &str, params: &[(&str, &str)]) {
        let long = self.long();
        let mut types = Vec::new();
        for (param, target) in params {
            let ty = if target.is_empty() {
                long
            } else {
                let target = self.record(target, &[]);
                self.ty(0, 2, 0, target)
            };
            types.push((self.string(param), ty));
        }
        let proto = self.ty(0, 13, params.len() as u32, long);
        for (param, ty) in types {
            self.push(&[param, ty]);
        }
        let name = self.string(name);
        self.ty(name, 12, 0, proto);
    }

    /// Returns the parsed BTF.
    pub fn finish(self) -> Btf {
        let mut data = vec![0x9f, 0xeb, 1, 0];
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        for n in [24, 0, types, types, strings] {
            data.extend(u32::to_le_bytes(n));
        }
        data.extend(self.types);
        data.extend(self.strings);
        Btf::parse(data).unwrap()
    }
}
