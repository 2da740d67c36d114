//! Which trace a span belongs to: W3C's Trace Context, level 1, as far as a program that passes nothing on needs it.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::wire::{Span, SpanKind};

/// Of W3C's trace flags: whoever called records the trace.
const SAMPLED: u8 = 1;
/// `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK` of OTLP: where the parent is is known.
const HAS_IS_REMOTE: u32 = 1 << 8;
/// `SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK` of OTLP: the parent is another program's.
const IS_REMOTE: u32 = 1 << 9;

/// A `traceparent` header: the span that a request was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

impl TraceParent {
    /// Reads the header; `None` for one that the specification says is to be ignored.
    ///
    /// Of a version to come the fields of version 00 are read, as the specification asks.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let mut fields = header.splitn(5, '-');
        let version = hex::<1>(fields.next()?)?[0];
        let trace_id = hex(fields.next()?)?;
        let span_id = hex(fields.next()?)?;
        let [flags] = hex(fields.next()?)?;
        let has_more = fields.next().is_some();
        let is_valid = version != 0xff && (version != 0 || !has_more) && trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then_some(Self { trace_id, span_id, flags })
    }

    /// Whether whoever called records the trace; if not, nothing of it is to be recorded here.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

impl Span {
    /// A span of work that another program asked for: below its span, or the first one of a trace.
    #[must_use]
    pub fn of_server(name: String, parent: Option<&TraceParent>) -> Self {
        let trace_id = parent.map_or_else(|| [random_id(), random_id()].concat(), |parent| parent.trace_id.to_vec());
        Self {
            trace_id,
            span_id: random_id().to_vec(),
            parent_span_id: parent.map(|parent| parent.span_id.to_vec()).unwrap_or_default(),
            name,
            kind: SpanKind::Server.into(),
            flags: u32::from(SAMPLED) | HAS_IS_REMOTE | if parent.is_some() { IS_REMOTE } else { 0 },
            ..Self::default()
        }
    }

    /// The trace's id as logs spell it: 32 hex digits.
    #[must_use]
    pub fn trace_id_hex(&self) -> String {
        self.trace_id.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Unique in this process, unlike those of another, and not 0.
fn random_id() -> [u8; 8] {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    HASHER.hash_one(NEXT.fetch_add(1, Relaxed)).max(1).to_be_bytes()
}

/// `N` bytes in lower-case hex digits, and nothing else.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(digits[0])? << 4 | digit(digits[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_parent_is_read_and_its_span_has_the_same_trace() {
        let parent = TraceParent::parse(&format!("00-{TRACE}-{SPAN}-01")).expect("the specification's example");
        assert!(parent.is_sampled());
        let span = Span::of_server("GET /".into(), Some(&parent));
        assert_eq!(span.trace_id_hex(), TRACE);
        assert_eq!((span.parent_span_id, span.span_id.len(), span.flags), (parent.span_id.to_vec(), 8, 0x301));
        for (flags, is_sampled) in [("00", false), ("02", false), ("03", true), ("ff", true)] {
            let parent = TraceParent::parse(&format!("00-{TRACE}-{SPAN}-{flags}")).expect("any flags");
            assert_eq!(parent.is_sampled(), is_sampled, "{flags}");
        }
        for later in [format!("01-{TRACE}-{SPAN}-01"), format!("cc-{TRACE}-{SPAN}-01-what-may-come")] {
            assert_eq!(TraceParent::parse(&later), Some(parent), "{later}");
        }
    }

    #[test]
    fn what_is_no_parent_is_ignored() {
        let zeros = "0".repeat(32);
        for header in [
            String::new(),
            TRACE.to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}\u{e9}-{SPAN}-01", &TRACE[2..]),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{SPAN}-{TRACE}-01"),
        ] {
            assert_eq!(TraceParent::parse(&header), None, "{header}");
        }
    }

    #[test]
    fn a_trace_of_its_own_has_fresh_ids_and_no_parent() {
        let spans = [(); 2].map(|()| Span::of_server("GET /".into(), None));
        for span in &spans {
            assert_eq!((span.trace_id.len(), span.span_id.len(), span.parent_span_id.len()), (16, 8, 0));
            assert_eq!(span.flags, 0x101);
        }
        assert!(spans[0].trace_id != spans[1].trace_id && spans[0].span_id != spans[1].span_id);
    }
}
