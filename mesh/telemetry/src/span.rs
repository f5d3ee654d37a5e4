//! Where a request's time went, in the form that OpenTelemetry gives it: spans.
//!
//! In: whether a trace is to be recorded (`sampler`), and of a request that is, what happens to it
//! (`live`). Out: when its record ends, JSON as OTLP wants it (`write`), gathered by its worker and
//! handed over in batches (`tracer`). Whoever takes those is not known here. A request that is not
//! sampled has nothing of this but one comparison. No token, no query string, no user stands in a
//! span.

#[cfg(test)]
mod figures;
mod live;
mod sampler;
mod tracer;
mod write;

pub use live::{Asked, Call, Callee, Spans, watched};
pub use sampler::Sampler;
pub use tracer::{Batch, Counts, SPANS_EVERY, TracerSpec};
pub use write::push_attribute;

pub(crate) use tracer::Tracer;
pub(crate) use write::Served;
