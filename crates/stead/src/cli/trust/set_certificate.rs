//! `stead trust set-certificate`: the operator's certificate for a name under which browsers reach the group.

use crate::cli::Context;
use crate::door::{Door, Method, escape};
use crate::errors::Failure;
use server::api::bodies::{CertificateUpload, ExternalCertificate, PrivateKeyText};
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The most bytes of a file.
const LIMIT: u64 = 64 * 1024;

/// Shows browsers that ask for a name the operator's own certificate, on every server
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The certificate's file holds the certificate first, then those that lead to its authority, in PEM; the key's file its \
private key, without a password. The key is kept sealed in the directory, and every server has the pair at once. stead trust show \
says until when it is valid; 30, 7 and 1 days before its end the journal does too. Programs of Stead, which pin the group's \
authority with --ca, go on to be shown the group's own certificate, under this name too.

Examples:
  stead trust set-certificate --name portal.example.org --cert fullchain.pem --key privkey.pem
  stead trust set-certificate --name portal.example.org --remove"
)]
pub(crate) struct SetCertificate {
    /// The name that browsers ask for; one of those in the certificate, or covered by one with *.
    #[arg(long, value_name = "NAME")]
    name: model::ExternalName,
    /// The file with the certificate and its chain.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "remove",
        requires = "key"
    )]
    cert: Option<PathBuf>,
    /// The file with its private key; `-` reads it from stdin.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "remove",
        requires = "cert"
    )]
    key: Option<PathBuf>,
    /// Take it out: the group's own certificate is shown for that name again.
    #[arg(long, conflicts_with_all = ["cert", "key"])]
    remove: bool,
}

impl SetCertificate {
    /// Puts it in, or takes it out.
    pub(super) async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let name = self.name.to_string();
        let path = format!("/v1/trust/certificates/{}", escape(&name));
        let (Some(cert), Some(key)) = (self.cert, self.key) else {
            let what = format!("the certificate for {name} was not removed");
            door.tell(&what, Method::Delete, &path, &()).await?;
            let done = serde_json::json!({ "name": name, "removed": true });
            let words = format!("Clients that ask for {name} are shown the group's certificate.");
            context.output.done(&done, words);
            return Ok(());
        };
        let what = format!("the certificate for {name} was not set");
        let upload = CertificateUpload {
            certificate: read(&cert, &what)?.to_string(),
            key: PrivateKeyText(read(&key, &what)?.to_string()),
        };
        let set: ExternalCertificate = door.send(&what, Method::Put, &path, &upload).await?;
        let words = format!(
            "Browsers that ask for {} are shown {}, until {}.",
            set.name, set.fingerprint, set.expires
        );
        context.output.done(&set, words);
        Ok(())
    }
}

fn read(file: &Path, what: &str) -> Result<Zeroizing<String>, Failure> {
    let failed = |why: String| Failure::failed(what, format!("{}: {why}", file.display()));
    let mut bytes = Zeroizing::new(Vec::new());
    let read = match file == Path::new("-") {
        true => std::io::stdin()
            .lock()
            .take(LIMIT + 1)
            .read_to_end(&mut bytes),
        false => std::fs::File::open(file)
            .and_then(|opened| opened.take(LIMIT + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > LIMIT {
        return Err(failed(format!("it is larger than {LIMIT} bytes")));
    }
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|_| failed("it is not text: PEM is what it must be in".to_owned()))?;
    Ok(Zeroizing::new(text.to_owned()))
}
