//! One question to one LDAP server: whether a password is a user's.
//!
//! Always true: nothing about anybody is sent before the connection is encrypted and the server's certificate is verified; what a server
//! says is bounded in size and number; a name is a value in what is sent, whatever it is. Whether there is such a user makes no
//! difference to what is asked: who is not found is tried under a name that nobody has. Start at [`ask`].

use super::trusted::TrustError;
use futures_util::{SinkExt, StreamExt};
use ldap3_proto::LdapCodec;
use ldap3_proto::proto::{
    LdapBindCred, LdapBindRequest, LdapDerefAliases, LdapExtendedRequest, LdapFilter,
    LdapMatchingRuleAssertion, LdapMsg, LdapOp, LdapResult, LdapResultCode, LdapSearchRequest,
    LdapSearchScope, LdapSubstringFilter,
};
use model::LdapUrl;
use model::authentication::filter::Filter;
use model::authentication::user_dn;
use model::settings::FindUser;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::codec::Framed;
use zeroize::Zeroizing;

/// How long one server may take, all in all.
pub(super) const LIMIT: Duration = Duration::from_secs(4);
/// The most bytes of one message from a server.
const MESSAGE: usize = 64 * 1024;
/// How deep its parts are nested at most.
const DEPTH: usize = 16;
/// The most messages that answer one search.
const ANSWERS: usize = 16;
/// The extended request for TLS (RFC 4511, section 4.14.1).
const START_TLS: &str = "1.3.6.1.4.1.1466.20037";
/// Asks for no attribute (RFC 4511, section 4.5.1.8).
const NO_ATTRIBUTES: &str = "1.1";
/// The most characters that are passed on of what a server says.
const SAID: usize = 200;

/// Why a server did not answer whether a password is a user's.
#[derive(Debug, thiserror::Error)]
pub(super) enum LdapError {
    #[error("it did not answer within {} s", LIMIT.as_secs())]
    Late,
    #[error("it is not reached")]
    Connect(#[source] io::Error),
    #[error("{host:?} is no name that a certificate can be for")]
    Host { host: String },
    #[error("it spoke out of turn before the connection was encrypted")]
    InTheClear,
    #[error(
        "no encrypted connection came about: it has to speak TLS 1.3, with a certificate for its name from an authority that is trusted (users.ldap-ca)"
    )]
    Tls(#[source] io::Error),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("the password of users.ldap-bind-dn (users.ldap-bind-secret) is missing or is no text")]
    NoPassword,
    #[error("it said what makes no sense here")]
    Nonsense,
    #[error("it refused {what}: {code:?}{}{message}", if message.is_empty() { "" } else { ", " })]
    Refused {
        what: &'static str,
        code: LdapResultCode,
        message: String,
    },
}

/// What is asked of every server.
pub(super) struct Question {
    /// How the user's entry is found.
    pub(super) find: FindUser,
    /// The password for looking, where one is set.
    pub(super) bind_password: Option<Zeroizing<String>>,
    /// Who is believed.
    pub(super) tls: Arc<ClientConfig>,
    /// A name that nobody has, to be asked for where there is nobody to ask for.
    pub(super) nobody: String,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that is encrypted.
struct Conversation {
    messages: Framed<Box<dyn Stream>, LdapCodec>,
    sent: i32,
}

/// Whether the password is the user's; the user is none where there is nobody to ask for, which is as much work.
pub(super) async fn ask(
    server: &LdapUrl,
    question: &Question,
    user: Option<&str>,
    password: &str,
) -> Result<bool, LdapError> {
    let asked = async {
        let mut conversation = Conversation::open(server, question).await?;
        let entry = conversation.entry_of(server, question, user).await?;
        let nobody = || nobodys_entry(question);
        // An empty password would be accepted for anybody: it says that one logs in as nobody (RFC 4513, section 5.1.2).
        let fits = !password.is_empty() && !password.contains('\0');
        let (name, password) = match entry.filter(|_| fits) {
            Some(entry) => (entry, password),
            None => (nobody(), question.nobody.as_str()),
        };
        let is_somebody = user.is_some() && name != nobody();
        let bound = conversation.bind(&name, password).await?;
        conversation.leave().await;
        verdict(bound).map(|accepted| accepted && is_somebody)
    };
    let answered = tokio::time::timeout(LIMIT, asked).await;
    answered.unwrap_or(Err(LdapError::Late))
}

/// Whether a server can be asked: it is reached, believed, and lets this server look.
pub(super) async fn reach(server: &LdapUrl, question: &Question) -> Result<(), LdapError> {
    let reached = async {
        let mut conversation = Conversation::open(server, question).await?;
        conversation.entry_of(server, question, None).await?;
        conversation.leave().await;
        Ok(())
    };
    let answered = tokio::time::timeout(LIMIT, reached).await;
    answered.unwrap_or(Err(LdapError::Late))
}

/// An entry that is not there.
fn nobodys_entry(question: &Question) -> String {
    match &question.find {
        FindUser::Template(template) => user_dn(template, &question.nobody),
        FindUser::Search { base, .. } => format!("cn={},{base}", question.nobody),
    }
}

/// What a server says to a password: yes, no, or nothing that would be about the password.
fn verdict(result: LdapResult) -> Result<bool, LdapError> {
    match result.code {
        LdapResultCode::Success => Ok(true),
        LdapResultCode::InvalidCredentials
        | LdapResultCode::NoSuchObject
        | LdapResultCode::InvalidDNSyntax
        | LdapResultCode::InappropriateAuthentication
        // An account that is locked or has expired there.
        | LdapResultCode::ConstraintViolation
        | LdapResultCode::UnwillingToPerform
        | LdapResultCode::InsufficentAccessRights => Ok(false),
        _ => Err(refused("to check the password", result)),
    }
}

fn refused(what: &'static str, result: LdapResult) -> LdapError {
    let message = result.message.chars().filter(|one| !one.is_control());
    LdapError::Refused {
        what,
        code: result.code,
        message: message.take(SAID).collect(),
    }
}

impl Conversation {
    async fn open(server: &LdapUrl, question: &Question) -> Result<Self, LdapError> {
        let host = &server.host;
        let name = ServerName::try_from(host.clone());
        let name = name.map_err(|_| LdapError::Host { host: host.clone() })?;
        let connected = TcpStream::connect((host.as_str(), server.port)).await;
        let mut stream = connected.map_err(LdapError::Connect)?;
        // It costs a little speed where it cannot be set, and nothing else.
        let _ = stream.set_nodelay(true);
        if !server.tls_at_once {
            stream = start_tls(stream).await?;
        }
        let connector = TlsConnector::from(question.tls.clone());
        let encrypted = connector.connect(name, stream).await;
        let stream: Box<dyn Stream> = Box::new(encrypted.map_err(LdapError::Tls)?);
        Ok(Self {
            messages: Framed::new(stream, codec()),
            sent: 0,
        })
    }

    /// The entry of a user; none where there is none, or more than one.
    async fn entry_of(
        &mut self,
        server: &LdapUrl,
        question: &Question,
        user: Option<&str>,
    ) -> Result<Option<String>, LdapError> {
        let asked = user.unwrap_or(&question.nobody);
        let (base, filter, bind) = match &question.find {
            FindUser::Template(template) => return Ok(user.map(|user| user_dn(template, user))),
            FindUser::Search { base, filter, bind } => (base, filter, bind),
        };
        if let Some((name, _)) = bind {
            let password = question.bind_password.as_deref();
            let password = password.ok_or(LdapError::NoPassword)?;
            let bound = self.bind(name, password).await?;
            if bound.code != LdapResultCode::Success {
                return Err(refused("users.ldap-bind-dn", bound));
            }
        }
        let request = LdapSearchRequest {
            base: base.clone(),
            scope: LdapSearchScope::Subtree,
            aliases: LdapDerefAliases::Never,
            // Two are one too many.
            sizelimit: 2,
            timelimit: i32::try_from(LIMIT.as_secs()).unwrap_or(i32::MAX),
            typesonly: true,
            filter: as_sent(filter.of_user(asked)),
            attrs: vec![NO_ATTRIBUTES.to_owned()],
        };
        self.send(LdapOp::SearchRequest(request)).await?;
        let mut found = Vec::new();
        for _ in 0..ANSWERS {
            match self.receive().await? {
                LdapOp::SearchResultEntry(entry) => found.push(entry.dn),
                LdapOp::SearchResultReference(_) => {}
                LdapOp::SearchResultDone(done) => {
                    let many = done.code == LdapResultCode::SizeLimitExceeded || found.len() > 1;
                    if many {
                        tracing::warn!(%server, user, "more than one entry has a user's name: nobody is let in by it; mend users.ldap-filter");
                        return Ok(None);
                    }
                    if done.code != LdapResultCode::Success {
                        return Err(refused("to look for a user under users.ldap-base", done));
                    }
                    // An entry without a name would be nobody, whom every password fits.
                    return Ok(found.pop().filter(|name| !name.is_empty()));
                }
                _ => return Err(LdapError::Nonsense),
            }
        }
        Err(LdapError::Nonsense)
    }

    async fn bind(&mut self, name: &str, password: &str) -> Result<LdapResult, LdapError> {
        let request = LdapBindRequest {
            version: 3,
            dn: name.to_owned(),
            cred: LdapBindCred::Simple(password.to_owned()),
        };
        self.send(LdapOp::BindRequest(request)).await?;
        match self.receive().await? {
            LdapOp::BindResponse(answer) => Ok(answer.res),
            _ => Err(LdapError::Nonsense),
        }
    }

    /// Takes leave, as far as the server still listens.
    async fn leave(mut self) {
        let _ = self.send(LdapOp::UnbindRequest).await;
    }

    async fn send(&mut self, op: LdapOp) -> Result<(), LdapError> {
        self.sent += 1;
        let sent = self.messages.send(LdapMsg::new(self.sent, op)).await;
        sent.map_err(LdapError::Broken)
    }

    async fn receive(&mut self) -> Result<LdapOp, LdapError> {
        let received = self.messages.next().await.ok_or(LdapError::Closed)?;
        let message = received.map_err(LdapError::Broken)?;
        match message.msgid {
            id if id == self.sent => Ok(message.op),
            // A notice that it goes away (RFC 4511, section 4.4.1).
            0 => Err(LdapError::Closed),
            _ => Err(LdapError::Nonsense),
        }
    }
}

fn codec() -> LdapCodec {
    LdapCodec::new(Some(MESSAGE), Some(DEPTH))
}

/// Asks for TLS on a connection that is in the clear.
async fn start_tls(stream: TcpStream) -> Result<TcpStream, LdapError> {
    let mut messages = Framed::new(stream, codec());
    let request = LdapExtendedRequest {
        name: START_TLS.to_owned(),
        value: None,
    };
    let sent = messages.send(LdapMsg::new(1, LdapOp::ExtendedRequest(request)));
    sent.await.map_err(LdapError::Broken)?;
    let received = messages.next().await.ok_or(LdapError::Closed)?;
    let received = received.map_err(LdapError::Broken)?;
    let LdapOp::ExtendedResponse(answer) = received.op else {
        return Err(LdapError::Nonsense);
    };
    if answer.res.code != LdapResultCode::Success {
        return Err(refused("to encrypt the connection (StartTLS)", answer.res));
    }
    let parts = messages.into_parts();
    // Whatever came after it in the clear is not to count as said under encryption.
    match parts.read_buf.is_empty() {
        true => Ok(parts.io),
        false => Err(LdapError::InTheClear),
    }
}

fn as_sent(filter: Filter) -> LdapFilter {
    let all = |filters: Vec<Filter>| filters.into_iter().map(as_sent).collect();
    match filter {
        Filter::And(filters) => LdapFilter::And(all(filters)),
        Filter::Or(filters) => LdapFilter::Or(all(filters)),
        Filter::Not(filter) => LdapFilter::Not(Box::new(as_sent(*filter))),
        Filter::Present(attribute) => LdapFilter::Present(attribute),
        Filter::Equal(attribute, value) => LdapFilter::Equality(attribute, value),
        Filter::AtLeast(attribute, value) => LdapFilter::GreaterOrEqual(attribute, value),
        Filter::AtMost(attribute, value) => LdapFilter::LessOrEqual(attribute, value),
        Filter::Substrings {
            attribute,
            first,
            then,
            last,
        } => LdapFilter::Substring(
            attribute,
            LdapSubstringFilter {
                initial: first,
                any: then,
                final_: last,
            },
        ),
        Filter::Rule {
            attribute,
            rule,
            value,
        } => LdapFilter::Extensible(LdapMatchingRuleAssertion {
            matching_rule: Some(rule),
            type_: Some(attribute),
            match_value: value,
            dn_attributes: false,
        }),
    }
}
