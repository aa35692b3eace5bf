//! Recordings made by a test.

use observer::{
    meta::{Closing, Meta},
    recording::Writer,
    source::Pass,
};

use super::shared::Shared;

/// Returns a recording of these passes as a file.
pub fn written(meta: &Meta, passes: &[Pass], closing: Option<&Closing>) -> Vec<u8> {
    let out = Shared::default();
    let mut writer = Writer::new(Box::new(out.clone()), meta).unwrap();
    passes.iter().for_each(|pass| writer.pass(pass).unwrap());
    writer.finish(closing).unwrap();
    out.bytes()
}
