//! Frames on the serial line out of the guest. The format of a frame is
//!
//! ```text
//! magic "OGf1" · kind u8 · payload length u32 · payload · CRC-32 of kind, length and payload     (little-endian)
//! ```
//!
//! The guest may die in the middle of a frame, and a kernel may write into the line. So the decoder searches for the next
//! magic and counts the bytes that it skips. Frames are neither acknowledged nor repeated: an emulated port loses no byte.

const MAGIC: [u8; 4] = *b"OGf1";
const HEADER: usize = MAGIC.len() + 1 + 4;
/// Maximum payload in bytes; a larger length is noise, not a frame.
const PAYLOAD_MAX: usize = 1 << 20;

const HELLO: u8 = 1;
const FILE: u8 = 2;
const EXIT: u8 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Init is running; contains the kernel's release.
    Hello { release: String },
    /// Bytes of a file below the out directory, `path` relative to it. Offset 0 starts the file again.
    File { path: String, offset: u64, bytes: Vec<u8> },
    /// The command ended with this status (128 + signal, as in a shell). This is the last frame.
    Exit { code: i32 },
}

impl Frame {
    /// # Panics
    /// A path or a payload is longer than a frame can hold; the sender splits files long before that.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Frame::Hello { release } => (HELLO, release.as_bytes().to_vec()),
            Frame::File { path, offset, bytes } => {
                let length = u16::try_from(path.len()).expect("a path fits a frame");
                let mut payload = length.to_le_bytes().to_vec();
                payload.extend_from_slice(path.as_bytes());
                payload.extend_from_slice(&offset.to_le_bytes());
                payload.extend_from_slice(bytes);
                (FILE, payload)
            }
            Frame::Exit { code } => (EXIT, code.to_le_bytes().to_vec()),
        };
        assert!(payload.len() <= PAYLOAD_MAX, "a payload of {} bytes fits no frame", payload.len());
        let mut out = MAGIC.to_vec();
        out.push(kind);
        out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        out.extend_from_slice(&payload);
        let crc = crc32(0, &out[MAGIC.len()..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn parse(kind: u8, payload: &[u8]) -> Option<Frame> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        match kind {
            HELLO => Some(Frame::Hello { release: text(payload)? }),
            FILE => {
                let (length, rest) = payload.split_first_chunk::<2>()?;
                let (path, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
                let (offset, bytes) = rest.split_first_chunk::<8>()?;
                let offset = u64::from_le_bytes(*offset);
                Some(Frame::File { path: text(path)?, offset, bytes: bytes.to_vec() })
            }
            EXIT => Some(Frame::Exit { code: i32::from_le_bytes(payload.try_into().ok()?) }),
            _ => None,
        }
    }
}

/// Decodes frames from bytes that arrive in pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
    /// Bytes that did not belong to a valid frame.
    pub skipped_bytes: u64,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Returns the next complete frame, or `None` if more bytes are needed.
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            let start = find_magic(&self.pending);
            self.skip(start);
            if self.pending.len() < HEADER {
                return None;
            }
            let length = [self.pending[5], self.pending[6], self.pending[7], self.pending[8]];
            let length = u32::from_le_bytes(length) as usize;
            if length > PAYLOAD_MAX {
                self.skip(1);
                continue;
            }
            let end = HEADER + length;
            let crc = self.pending.get(end..end + 4)?;
            let good = crc == crc32(0, &self.pending[MAGIC.len()..end]).to_le_bytes();
            match good.then(|| Frame::parse(self.pending[MAGIC.len()], &self.pending[HEADER..end])).flatten()
            {
                Some(frame) => {
                    self.pending.drain(..end + 4);
                    return Some(frame);
                }
                None => self.skip(1),
            }
        }
    }

    fn skip(&mut self, count: usize) {
        self.pending.drain(..count);
        self.skipped_bytes += count as u64;
    }
}

/// Returns the position of the next magic, or of a possible start of one.
fn find_magic(bytes: &[u8]) -> usize {
    (0..bytes.len())
        .find(|&at| {
            let rest = &bytes[at..];
            MAGIC.starts_with(&rest[..rest.len().min(MAGIC.len())])
        })
        .unwrap_or(bytes.len())
}

/// Returns the CRC-32 (IEEE), continued from `crc`; start with 0.
pub fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!crc, |crc, &byte| TABLE[((crc ^ u32::from(byte)) & 0xff) as usize] ^ (crc >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Frame> {
        vec![
            Frame::Hello { release: "6.12.95".into() },
            Frame::File { path: "a/b.obs".into(), offset: 7, bytes: b"OGf1 inside is data\0\xff".to_vec() },
            Frame::File { path: "empty".into(), offset: 0, bytes: vec![] },
            Frame::Exit { code: -3 },
        ]
    }

    fn decode(bytes: &[u8], step: usize) -> (Vec<Frame>, u64) {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for part in bytes.chunks(step) {
            decoder.push(part);
            while let Some(frame) = decoder.next_frame() {
                frames.push(frame);
            }
        }
        (frames, decoder.skipped_bytes)
    }

    #[test]
    fn any_split_gives_the_same_frames() {
        let bytes: Vec<u8> = samples().iter().flat_map(Frame::to_bytes).collect();
        for step in 1..bytes.len() {
            assert_eq!(decode(&bytes, step), (samples(), 0), "split every {step}");
        }
    }

    #[test]
    fn noise_and_damage_lose_only_their_frame() {
        let mut bytes = b"OGO".to_vec();
        for (index, frame) in samples().iter().enumerate() {
            let mut frame = frame.to_bytes();
            if index == 1 {
                frame[20] ^= 1;
            }
            bytes.extend(frame);
        }
        let mut expected = samples();
        let damaged = expected.remove(1).to_bytes().len() as u64;
        assert_eq!(decode(&bytes, 5), (expected, 3 + damaged));
    }

    #[test]
    fn a_cut_frame_is_not_accepted() {
        let bytes = samples()[1].to_bytes();
        assert_eq!(decode(&bytes[..bytes.len() - 1], 64).0, vec![]);
    }

    #[test]
    fn a_length_in_noise_does_not_stall() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([FILE, 0xff, 0xff, 0xff, 0xff]);
        bytes.extend(samples()[0].to_bytes());
        assert_eq!(decode(&bytes, 3).0, samples()[..1]);
    }

    #[test]
    fn the_crc_matches_a_published_value() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(crc32(0, b"1234"), b"56789"), 0xcbf4_3926);
    }
}
