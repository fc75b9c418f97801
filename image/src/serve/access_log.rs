//! One line a request, written when its last byte is out or its connection is gone.

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// Where the lines go.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// Middleware that logs: `GET /path range=bytes=0-9 status=206 bytes=10 ms=1`.
pub(super) async fn layer(State(log): State<Log>, request: Request, next: Next) -> Response {
    let range =
        request.headers().get(header::RANGE).map_or("-", |range: &HeaderValue| range.to_str().unwrap_or("?"));
    // A path in a request is percent-encoded, so a line stays a line.
    let what = format!("{} {} range={range}", request.method(), request.uri().path());
    let begin = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    response.map(|inner| Body::new(Counted { inner, bytes: 0, what, status, begin, log }))
}

/// A body that counts what is taken from it.
struct Counted {
    inner: Body,
    bytes: u64,
    what: String,
    status: u16,
    begin: Instant,
    log: Log,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Self { what, status, bytes, .. } = self;
        (self.log)(&format!("{what} status={status} bytes={bytes} ms={}", self.begin.elapsed().as_millis()));
    }
}
