//! Problem documents (RFC 9457): what went wrong, why, what to do, and the exit code of the command line.
//!
//! Always true: a problem names no secret, and its `type` and `exit` are stable. Start at [`Problem`].

use crate::login::LoginError;
use crate::submit::SubmitError;
use crate::tickets::TicketError;
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use model::profile::ProfileError;
use model::settings::SettingError;
use model::{Refusal, ServerName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A stable name of the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// What would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The exit code of a command that meets it: 1 failed, 2 usage, 3 may work later, 4 refused.
    pub exit: u8,
    /// After how many seconds it may work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

impl Problem {
    fn new(
        kind: &str,
        title: &str,
        status: StatusCode,
        exit: u8,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind: format!("urn:stead:problem:{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            remedy: None,
            exit,
            retry_after_s: None,
        }
    }

    /// With what would help.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }

    /// With the time after which it may work.
    #[must_use]
    fn retry_after(self, seconds: u64) -> Self {
        Self {
            retry_after_s: Some(seconds),
            ..self
        }
    }

    /// The request makes no sense.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(
            "invalid-request",
            "The request makes no sense",
            StatusCode::UNPROCESSABLE_ENTITY,
            4,
            detail,
        )
    }

    /// What was planned is refused.
    pub fn refused(detail: impl Into<String>) -> Self {
        Self::new(
            "refused",
            "The change was refused",
            StatusCode::CONFLICT,
            4,
            detail,
        )
    }

    /// It did not come about, and may at another time.
    pub(crate) fn later(detail: impl Into<String>) -> Self {
        Self::new(
            "not-now",
            "It did not come about",
            StatusCode::GATEWAY_TIMEOUT,
            3,
            detail,
        )
    }

    /// The request cannot be read at all.
    pub fn malformed(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::new(
            "malformed-request",
            "The request cannot be read",
            status,
            1,
            detail,
        )
    }

    /// There is no such address.
    pub fn no_route(path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        Self::new(
            "no-route",
            "There is no such address",
            StatusCode::NOT_FOUND,
            1,
            format!("nothing is at {path}"),
        )
        .remedy("see /v1/openapi.json for what there is")
    }

    /// The address does not take this method.
    pub fn no_method(method: &str) -> Self {
        let detail = format!(
            "{} cannot be used here",
            method.chars().take(20).collect::<String>()
        );
        Self::new(
            "no-method",
            "The method cannot be used here",
            StatusCode::METHOD_NOT_ALLOWED,
            1,
            detail,
        )
    }

    /// There is no such record. `nearest` is the name that is spelled most like it.
    pub fn not_found(kind: &str, name: &str, nearest: Option<&str>) -> Self {
        let name: String = name.chars().take(model::name::NAME_LIMIT).collect();
        let detail = format!("there is no {kind} {name:?}");
        let problem = Self::new(
            "not-found",
            "There is no such record",
            StatusCode::NOT_FOUND,
            4,
            detail,
        );
        match nearest {
            Some(nearest) => problem.remedy(format!("the nearest is {nearest}")),
            None => problem,
        }
    }

    /// Nobody is logged in.
    pub fn not_logged_in(detail: impl Into<String>) -> Self {
        Self::new(
            "not-logged-in",
            "Nobody is logged in",
            StatusCode::UNAUTHORIZED,
            4,
            detail,
        )
        .remedy("log in with `stead login`, or use the command line on a server as root")
    }

    /// The account may not do this.
    pub fn not_allowed(detail: impl Into<String>) -> Self {
        Self::new(
            "not-allowed",
            "The account may not do this",
            StatusCode::FORBIDDEN,
            4,
            detail,
        )
    }

    /// Somebody else changed the record in between.
    pub fn changed_meanwhile(detail: impl Into<String>) -> Self {
        Self::new(
            "changed-meanwhile",
            "The record was changed meanwhile",
            StatusCode::PRECONDITION_FAILED,
            4,
            detail,
        )
        .remedy("read the record again, and send If-Match with its ETag")
    }

    /// The request took too long.
    pub fn too_slow() -> Self {
        let detail = "the request was not done in time, and its outcome is unknown";
        Self::new(
            "too-slow",
            "The request took too long",
            StatusCode::GATEWAY_TIMEOUT,
            3,
            detail,
        )
        .remedy("ask again with the same Idempotency-Key")
    }

    /// The body is larger than it may be.
    pub fn body_too_large(limit: usize) -> Self {
        let detail = format!("the body is larger than {limit} bytes");
        Self::new(
            "too-large",
            "The request is too large",
            StatusCode::PAYLOAD_TOO_LARGE,
            4,
            detail,
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = axum::Json(&self).into_response();
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"stead\""),
            );
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let detail = error.to_string();
        match error {
            SubmitError::Refused(refusal) => refusal.into(),
            SubmitError::NoPrimary { .. } => {
                Self::new("no-primary", "No server acts as primary", StatusCode::SERVICE_UNAVAILABLE, 3, detail)
                    .remedy("try again when `stead status` shows a primary; if servers are down, start them")
                    .retry_after(1)
            }
            SubmitError::OutcomeUnknown => {
                Self::new("outcome-unknown", "The outcome is unknown", StatusCode::GATEWAY_TIMEOUT, 3, detail)
                    .remedy("ask again with the same Idempotency-Key: it is done once at most")
                    .retry_after(1)
            }
            SubmitError::Behind { .. } => {
                Self::new("behind", "This server is behind", StatusCode::SERVICE_UNAVAILABLE, 3, detail)
                    .remedy("ask another server, or ask again")
                    .retry_after(1)
            }
            SubmitError::DiskFull => Self::new("disk-full", "The disk is full", StatusCode::INSUFFICIENT_STORAGE, 1, detail)
                .remedy("make room where the primary's data folder is; changes are accepted again by themselves"),
            SubmitError::Unfit { candidates, .. } => {
                let objections = candidates.iter().flat_map(|(_, reasons)| reasons).filter(|reason| !reason.pass);
                let why: Vec<String> = objections.map(|reason| reason.detail.clone()).collect();
                let detail = if why.is_empty() { detail } else { format!("{detail}: {}", why.join("; ")) };
                Self::new("unfit", "No server is fit", StatusCode::CONFLICT, 4, detail)
                    .remedy("see `stead explain` for every server and reason")
            }
            SubmitError::Invalid { .. } => Self::invalid(detail),
            SubmitError::NoSealKey => Self::new("no-seal-key", "This server lacks a key", StatusCode::CONFLICT, 4, detail)
                .remedy("ask a server that may become primary"),
            SubmitError::NotSealed { .. } => {
                Self::new("no-seal-key", "No server could seal it", StatusCode::SERVICE_UNAVAILABLE, 3, detail)
                    .remedy("ask again when a server that may become primary is reached")
                    .retry_after(1)
            }
            SubmitError::Randomness(_) | SubmitError::Keys(_) => Self::internal(detail),
        }
    }
}

impl Problem {
    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::new(
            "internal",
            "The server failed",
            StatusCode::INTERNAL_SERVER_ERROR,
            1,
            detail,
        )
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        let conflict = |kind: &str, title: &str| {
            Self::new(kind, title, StatusCode::CONFLICT, 4, detail.clone())
        };
        match refusal {
            Refusal::NotFound { kind, name } => Self::not_found(&kind.to_string(), &name, None),
            Refusal::Exists { kind, .. } => conflict("exists", "The name is taken").remedy(
                format!("choose another name, or change the {kind} that there is"),
            ),
            Refusal::Version { .. } => Self::changed_meanwhile(detail),
            Refusal::Setting(error) => error.into(),
            Refusal::TooLarge { .. } => Self::new(
                "too-large",
                "The request is too large",
                StatusCode::PAYLOAD_TOO_LARGE,
                4,
                detail,
            ),
            Refusal::Invalid { .. } => Self::invalid(detail),
            Refusal::LastAdministrator { .. } => {
                conflict("last-administrator", "The last administrator must stay")
                    .remedy("add another account with --role admin first")
            }
            Refusal::InUse { .. } => conflict("in-use", "It is in use")
                .remedy("`stead session list --app` shows them, `stead session end` ends them"),
            Refusal::SecretInUse { .. } => conflict("in-use", "It is in use")
                .remedy("`stead app set APP --launch` and --env change what an application is given"),
            Refusal::SecretInSetting { key, .. } => conflict("in-use", "It is in use")
                .remedy(format!("stead config unset {key}")),
            Refusal::IsPrimary { name } => conflict("is-primary", "The primary cannot be removed")
                .remedy(format!(
                    "promote a server other than {name} first: stead group promote SERVER"
                )),
            Refusal::StructureBusy { server } => {
                conflict("structure-busy", "A server is joining or leaving")
                    .remedy(wait_for(&server))
                    .retry_after(1)
            }
            Refusal::ModeNeeded { name } => conflict("mode-needed", "Two voters would be left")
                .remedy(format!(
                    "stead group remove {name} --mode availability|quorum; or add a voter or a witness first"
                )),
            Refusal::NotPaused => conflict("not-paused", "There is nothing to resume")
                .remedy("nothing has to be done; `stead status` shows a pause while there is one"),
            _ => conflict("refused", "The change was refused"),
        }
    }
}

fn wait_for(server: &ServerName) -> String {
    format!("wait until `stead group list` shows {server} settled")
}

impl From<ProfileError> for Problem {
    fn from(error: ProfileError) -> Self {
        let problem = Self::invalid(error.to_string());
        match error {
            ProfileError::Unknown { nearest, .. } => problem.remedy(format!(
                "the nearest is {nearest}; `stead profile set --help` shows all"
            )),
            ProfileError::Value { .. } => problem,
            ProfileError::NotPreferable { .. } => {
                problem.remedy("an administrator says it with `stead profile set`")
            }
        }
    }
}

impl From<SettingError> for Problem {
    fn from(error: SettingError) -> Self {
        let detail = error.to_string();
        match error {
            SettingError::Unknown { nearest, .. } => Self::new(
                "not-found",
                "There is no such setting",
                StatusCode::NOT_FOUND,
                4,
                detail,
            )
            .remedy(format!(
                "use {nearest}, or see `stead config list` for all settings"
            )),
            SettingError::Value { key, nearest, .. } => Self::invalid(detail).remedy(format!(
                "use {nearest}, or see `stead config describe {key}`"
            )),
            SettingError::NotPerServer { .. } => {
                Self::invalid(detail).remedy("set it for the group, without --on")
            }
            _ => Self::invalid(detail),
        }
    }
}

impl From<LoginError> for Problem {
    fn from(error: LoginError) -> Self {
        let detail = error.to_string();
        match error {
            LoginError::Wrong => Self::new(
                "login-failed",
                "The login failed",
                StatusCode::UNAUTHORIZED,
                4,
                detail,
            ),
            LoginError::Locked { wait } => Self::new(
                "locked",
                "The account is locked",
                StatusCode::TOO_MANY_REQUESTS,
                4,
                detail,
            )
            .retry_after(wait.as_secs().max(1)),
            LoginError::Busy => Self::new(
                "busy",
                "Too many logins at once",
                StatusCode::SERVICE_UNAVAILABLE,
                3,
                detail,
            )
            .retry_after(1),
            LoginError::Behind { .. } => Self::new(
                "behind",
                "This server is behind",
                StatusCode::SERVICE_UNAVAILABLE,
                3,
                detail,
            )
            .remedy("log in at another server, or try again")
            .retry_after(1),
            LoginError::Unchecked => Self::new(
                "unchecked",
                "Logins cannot be checked",
                StatusCode::SERVICE_UNAVAILABLE,
                3,
                detail,
            )
            .remedy("`stead status` on a server says what is in the way")
            .retry_after(5),
            LoginError::Unfit => Self::invalid(detail).remedy("choose another password"),
            LoginError::Randomness(_) | LoginError::Hash(_) => Self::internal(detail),
        }
    }
}

impl From<TicketError> for Problem {
    fn from(error: TicketError) -> Self {
        Self::not_logged_in(format!("the login is not valid (any more): {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_and_statuses() {
        let cases = [
            (
                SubmitError::NoPrimary {
                    detail: "s2 not heard".into(),
                },
                503,
                3,
            ),
            (SubmitError::OutcomeUnknown, 504, 3),
            (SubmitError::DiskFull, 507, 1),
            (SubmitError::Refused(Refusal::InvitationExpired), 409, 4),
            (
                SubmitError::Unfit {
                    decision: "none".into(),
                    candidates: Vec::new(),
                },
                409,
                4,
            ),
        ];
        for (error, status, exit) in cases {
            let problem = Problem::from(error);
            assert_eq!(
                (problem.status, problem.exit),
                (status, exit),
                "{problem:?}"
            );
        }
    }

    #[test]
    fn a_document_has_its_media_type_and_headers() {
        let response = Problem::from(LoginError::Locked {
            wait: std::time::Duration::from_secs(7),
        })
        .into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "7");
        let response = Problem::not_logged_in("no token was sent").into_response();
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
    }
}
