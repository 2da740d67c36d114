//! The messages that spans travel in: of `opentelemetry/proto/trace/v1/trace.proto` and the files that it imports, the
//! fields that are written or read here, under their own names and numbers.
//!
//! Fields of version 1 keep their numbers and are only added to, so a collector reads what is left out as absent.

use prost::{Enumeration, Message, Oneof};

/// What is posted: spans of one resource.
#[derive(Clone, PartialEq, Message)]
pub struct ExportTraceServiceRequest {
    /// The spans, by what made them.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// What comes back with a success.
#[derive(Clone, PartialEq, Message)]
pub struct ExportTraceServiceResponse {
    /// Present where not all spans were taken.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<ExportTracePartialSuccess>,
}

/// Which part was taken.
#[derive(Clone, PartialEq, Message)]
pub struct ExportTracePartialSuccess {
    /// Spans that were not taken.
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    /// Why, for people.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// Spans of one resource.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    /// The program.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// The spans, by the part of the program that made them.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

/// A program that makes spans.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    /// `service.name` and what else is known of it.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// Spans of one part of a program.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    /// The part.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    /// Its spans.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

/// A part of a program that makes spans.
#[derive(Clone, PartialEq, Message)]
pub struct InstrumentationScope {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// One piece of work, with its beginning and its end.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    /// 16 bytes, the same for all spans of a trace.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// 8 bytes; empty for the first span of a trace.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// What is done, one of few.
    #[prost(string, tag = "5")]
    pub name: String,
    /// Its place between programs.
    #[prost(enumeration = "SpanKind", tag = "6")]
    pub kind: i32,
    /// When it began, in nanoseconds since 1970.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// When it ended, in nanoseconds since 1970.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// What is known of it.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// Whether it failed.
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
    /// The lower 8 bits are those of W3C's trace flags, the next two say where the parent is.
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
}

/// The place of a span between programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum SpanKind {
    /// Not said.
    Unspecified = 0,
    /// Work that another program asked for.
    Server = 2,
}

/// How a span ended.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// Whether it failed.
    #[prost(enumeration = "StatusCode", tag = "3")]
    pub code: i32,
}

/// Whether a span failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum StatusCode {
    /// Not as far as its program is to blame.
    Unset = 0,
    /// It did.
    Error = 2,
}

/// A named value.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// The name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// A value.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// What it is.
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
    pub value: Option<Value>,
}

/// What a value is.
#[derive(Clone, PartialEq, Oneof)]
pub enum Value {
    /// Text.
    #[prost(string, tag = "1")]
    String(String),
    /// True or false.
    #[prost(bool, tag = "2")]
    Bool(bool),
    /// A whole number.
    #[prost(int64, tag = "3")]
    Int(i64),
    /// Any number.
    #[prost(double, tag = "4")]
    Double(f64),
    /// Several values.
    #[prost(message, tag = "5")]
    Array(ArrayValue),
}

/// Several values.
#[derive(Clone, PartialEq, Message)]
pub struct ArrayValue {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<AnyValue>,
}

impl KeyValue {
    /// Names a value.
    pub fn new(key: &str, value: impl Into<Value>) -> Self {
        Self { key: key.to_owned(), value: Some(AnyValue { value: Some(value.into()) }) }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Self::Bool(is)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Double(number)
    }
}

/// A count; one that no `i64` holds reads as the largest.
impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Int(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl From<&[&str]> for Value {
    fn from(texts: &[&str]) -> Self {
        let values = texts.iter().map(|&text| AnyValue { value: Some(text.into()) });
        Self::Array(ArrayValue { values: values.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request as Python's opentelemetry-proto 1.45 writes it, in hex digits.
    const REQUEST: &str = "0acf010a1a0a180a0c736572766963652e6e616d6512080a06616e616e6b6512b0010a0b0a06616e616e6b651201311\
        2a0010a100102030405060708090a0b0c0d0e0f10120811121314151617182208191a1b1c1d1e1f202a07504f5354202f783002390100\
        2a36fe9c97174102cac471fe9c97174a0b0a017312060a04746578744a070a0162120210014a100a0169120b18feffffffffffffffff0\
        14a0e0a0164120921000000000000e03f4a190a016112142a120a060a0473746f700a080a066c656e6774687a02180285010103\
        0000";
    /// A response of the same.
    const RESPONSE: [u8; 8] = [0x0a, 0x06, 0x08, 0x02, 0x12, 0x02, 0x6e, 0x6f];

    #[test]
    fn messages_are_those_that_others_write() {
        let attributes = vec![
            KeyValue::new("s", "text"),
            KeyValue::new("b", true),
            KeyValue::new("i", Value::Int(-2)),
            KeyValue::new("d", 0.5),
            KeyValue::new("a", &["stop", "length"][..]),
        ];
        let span = Span {
            trace_id: (1..=16).collect(),
            span_id: (17..=24).collect(),
            parent_span_id: (25..=32).collect(),
            name: "POST /x".into(),
            kind: SpanKind::Server.into(),
            start_time_unix_nano: 1_700_000_000_000_000_001,
            end_time_unix_nano: 1_700_000_001_000_000_002,
            attributes,
            status: Some(Status { code: StatusCode::Error.into() }),
            flags: 0x301,
        };
        let scope = InstrumentationScope { name: "ananke".into(), version: "1".into() };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes: vec![KeyValue::new("service.name", "ananke")] }),
                scope_spans: vec![ScopeSpans { scope: Some(scope), spans: vec![span] }],
            }],
        };
        let bytes = request.encode_to_vec();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, REQUEST);
        assert_eq!(ExportTraceServiceRequest::decode(&*bytes), Ok(request));
        let rest = ExportTracePartialSuccess { rejected_spans: 2, error_message: "no".into() };
        assert_eq!(
            ExportTraceServiceResponse::decode(&RESPONSE[..]),
            Ok(ExportTraceServiceResponse { partial_success: Some(rest) })
        );
    }

    #[test]
    fn a_count_beyond_the_range_is_the_largest() {
        assert_eq!([Value::from(7), Value::from(u64::MAX)], [Value::Int(7), Value::Int(i64::MAX)]);
    }
}
