//! Long lists in pages: how many a page has, and the `Link` header to the next.
//!
//! Always true: the address of the next page keeps the filter of this one. Start at [`take`] and [`answer`].

use super::problem::Problem;
use axum::Json;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The most of one page.
pub(super) const LIMIT: u32 = 1_000;

/// How many were asked for by a parameter; as many as there may be where none was.
pub(super) fn size(parameter: &str, asked: Option<u32>) -> Result<usize, Problem> {
    let size = asked.unwrap_or(LIMIT);
    if !(1..=LIMIT).contains(&size) {
        return Err(Problem::invalid(format!("{parameter} is 1 to {LIMIT}")));
    }
    Ok(usize::try_from(size).unwrap_or(1))
}

/// A page, and the first one behind it.
pub(super) fn take<T>(all: impl IntoIterator<Item = T>, size: usize) -> (Vec<T>, Option<T>) {
    let mut all = all.into_iter();
    let page = all.by_ref().take(size).collect();
    (page, all.next())
}

/// Answers with a page; with the parameter, and its value, that leads to the next, where there is one.
pub(super) fn answer<T: Serialize>(
    page: Vec<T>,
    uri: &Uri,
    next: Option<(&str, String)>,
) -> Response {
    let mut response = Json(page).into_response();
    let link = next.and_then(|(name, value)| next_link(uri, name, &value));
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

fn next_link(uri: &Uri, name: &str, value: &str) -> Option<HeaderValue> {
    let prefix = format!("{name}=");
    let kept = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with(&prefix));
    let mut query: Vec<&str> = kept.collect();
    // A token's punctuation means something in an address.
    let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
    let pair = prefix + &value;
    query.push(&pair);
    let link = format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&"));
    HeaderValue::from_str(&link).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_keeps_the_filter() {
        let link = |uri: &str, value| next_link(&uri.parse().unwrap(), "cursor", value).unwrap();
        assert_eq!(
            link("/v1/sessions", "ab"),
            "</v1/sessions?cursor=ab>; rel=\"next\""
        );
        assert_eq!(
            link("/v1/sessions?user=ann&cursor=cd&limit=2", "ab"),
            "</v1/sessions?user=ann&limit=2&cursor=ab>; rel=\"next\""
        );
        assert_eq!(
            link("/v1/tokens", "card.a+b=/:@"),
            "</v1/tokens?cursor=card.a%2Bb%3D%2F%3A%40>; rel=\"next\""
        );
    }

    #[test]
    fn a_page_says_what_is_behind_it() {
        assert_eq!(take(1..6, 2), (vec![1, 2], Some(3)));
        assert_eq!(take(1..3, 2), (vec![1, 2], None));
        assert_eq!(size("limit", None).unwrap(), 1_000);
        assert_eq!(size("last", Some(0)).unwrap_err().status, 422);
        assert_eq!(size("limit", Some(1_001)).unwrap_err().status, 422);
    }
}
