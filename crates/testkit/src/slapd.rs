//! OpenLDAP as people use it: a server on loopback with a configuration, an authority and entries of its own.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::process::Process;
use crate::wait::{eventually, seconds};

const PROGRAM: &str = "/usr/sbin/slapd";
/// Where Debian keeps the modules of slapd.
const MODULES: &str = "/usr/lib/ldap";

/// The entry under which everything is.
const SUFFIX: &str = "dc=example";

/// A server with these people under `ou=people,dc=example`, each with a password; and `cn=reader,dc=example`, who alone may look for them.
///
/// It takes passwords on encrypted connections only, and accepts everybody with an empty one, as nobody: what careless servers do.
#[derive(Debug)]
pub struct Slapd {
    folder: TempDir,
    clear: u16,
    tls: u16,
    process: Process,
}

impl Slapd {
    /// The password of `cn=reader,dc=example`.
    pub const READER: &str = "what readers know";

    /// Starts one with these people: name and password.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    #[track_caller]
    pub fn start(people: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("stead-slapd-").tempdir();
        let folder = folder.expect("a folder for slapd");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("db")).expect("a folder for its data");
        certificates(&folder);
        fs::write(at("slapd.conf"), configuration(&folder)).expect("a configuration");
        fs::write(at("people.ldif"), entries(people)).expect("entries");
        // slapadd is slapd by another name.
        run(Command::new("/usr/sbin/slapadd")
            .arg("-f")
            .arg(at("slapd.conf"))
            .arg("-l")
            .arg(at("people.ldif")));
        let (clear, tls) = (free_port(), free_port());
        let process = Self::process(&folder, clear, tls);
        Self {
            folder,
            clear,
            tls,
            process,
        }
    }

    fn process(folder: &TempDir, clear: u16, tls: u16) -> Process {
        let urls = format!("ldap://127.0.0.1:{clear}/ ldaps://127.0.0.1:{tls}/");
        let mut command = Command::new(PROGRAM);
        command.args(["-d", "0", "-h", &urls, "-f"]);
        let mut process = Process::start("slapd", command.arg(folder.path().join("slapd.conf")));
        eventually(seconds(20), "slapd accepts", || {
            assert!(process.is_running(), "{}", process.story());
            let reached = |port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            reached(clear) && reached(tls)
        });
        process
    }

    /// Starts it again where it was, after it was killed.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.process = Self::process(&self.folder, self.clear, self.tls);
    }

    /// Where it encrypts when it is asked to.
    pub fn ldap(&self) -> String {
        format!("ldap://localhost:{}", self.clear)
    }

    /// Where it encrypts from the first byte on.
    pub fn ldaps(&self) -> String {
        format!("ldaps://localhost:{}", self.tls)
    }

    /// The certificate of its authority.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Its process.
    pub fn server(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// An authority, and a certificate of it for `localhost`.
#[track_caller]
fn certificates(folder: &TempDir) {
    let at = |name: &str| folder.path().join(name);
    let mut authority = Command::new("openssl");
    authority.args([
        "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2",
    ]);
    authority.args(["-subj", "/CN=Authority of a test", "-keyout"]);
    run(authority.arg(at("ca.key")).arg("-out").arg(at("ca.pem")));
    let mut request = Command::new("openssl");
    request.args([
        "req",
        "-nodes",
        "-newkey",
        "rsa:2048",
        "-subj",
        "/CN=localhost",
        "-keyout",
    ]);
    run(request
        .arg(at("server.key"))
        .arg("-out")
        .arg(at("server.csr")));
    fs::write(at("names"), "subjectAltName=DNS:localhost").expect("names");
    let mut issue = Command::new("openssl");
    issue.args(["x509", "-req", "-days", "2", "-CAcreateserial", "-in"]);
    issue.arg(at("server.csr")).arg("-CA").arg(at("ca.pem"));
    issue
        .arg("-CAkey")
        .arg(at("ca.key"))
        .arg("-extfile")
        .arg(at("names"));
    run(issue.arg("-out").arg(at("server.pem")));
}

fn configuration(folder: &TempDir) -> String {
    let folder = folder.path().display();
    format!(
        "include /etc/ldap/schema/core.schema\n\
         include /etc/ldap/schema/cosine.schema\n\
         include /etc/ldap/schema/inetorgperson.schema\n\
         modulepath {MODULES}\n\
         moduleload back_mdb\n\
         TLSCACertificateFile {folder}/ca.pem\n\
         TLSCertificateFile {folder}/server.pem\n\
         TLSCertificateKeyFile {folder}/server.key\n\
         security simple_bind=128\n\
         allow bind_anon_cred bind_anon_dn\n\
         database mdb\n\
         suffix {SUFFIX}\n\
         rootdn cn=root,{SUFFIX}\n\
         directory {folder}/db\n\
         access to attrs=userPassword by anonymous auth by * none\n\
         access to * by dn.exact=cn=reader,{SUFFIX} read by anonymous auth by * none\n"
    )
}

fn entries(people: &[(&str, &str)]) -> String {
    let mut text = format!(
        "dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n\
         dn: ou=people,{SUFFIX}\nobjectClass: organizationalUnit\nou: people\n\n\
         dn: cn=reader,{SUFFIX}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: reader\nuserPassword: {}\n",
        Slapd::READER
    );
    for (name, password) in people {
        text.push_str(&format!(
            "\ndn: uid={name},ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\nsn: {name}\nuserPassword: {password}\n"
        ));
    }
    text
}

/// One that nobody had a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("its address").port()
}

#[track_caller]
fn run(command: &mut Command) {
    let done = command.output();
    let done = done.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {done:?}");
}
