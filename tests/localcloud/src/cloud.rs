//! The whole local cloud: start, addresses, stop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::client::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY};
use crate::graphite::Graphite;
use crate::service::{Program, Service, free_ports};
use crate::{AwsClient, Error, Gate, ec2, tools};

const READY: Duration = Duration::from_secs(180);

/// How to start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where the parts' logs go; by default into the temporary directory that goes with the cloud.
    pub log_dir: Option<PathBuf>,
}

/// Running parts. Dropping it kills all their processes and removes their files.
#[derive(Debug)]
pub struct LocalCloud {
    aws: AwsClient,
    ec2: AwsClient,
    gate: Gate,
    graphite: Graphite,
    log_dir: PathBuf,
    // Dropped in this order: the processes before the directory they write to.
    _ministack: Service,
    _moto: Service,
    _dir: TempDir,
}

impl LocalCloud {
    /// Starts all parts on free ports of loopback and waits until each answers.
    ///
    /// # Errors
    /// Names the part that failed, with the end of its log; or the tool that is missing and how to get it.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let dir = tempfile::Builder::new()
            .prefix("twinscaler-")
            .tempdir()
            .map_err(Error::io("create a temporary directory; is TMPDIR writable?"))?;
        let log_dir = make_dir(options.log_dir.unwrap_or_else(|| dir.path().join("log")))?;

        let moto_dir = make_dir(dir.path().join("moto"))?;
        let graphite_dir = make_dir(dir.path().join("graphite"))?;
        let (moto, graphite) = tokio::join!(ec2::start(&moto_dir, &log_dir), Graphite::start(&graphite_dir, &log_dir));
        let ((moto_url, moto), graphite) = (moto?, graphite?);
        let gate = Gate::start(&moto_url).await?;
        // Last, because functions inherit the gate's address from it.
        let (endpoint, ministack) =
            start_ministack(&make_dir(dir.path().join("ministack"))?, &log_dir, &gate.endpoint()).await?;
        Ok(Self {
            aws: AwsClient::new(endpoint),
            ec2: AwsClient::new(gate.endpoint()),
            gate,
            graphite,
            log_dir,
            _ministack: ministack,
            _moto: moto,
            _dir: dir,
        })
    }

    /// Stops everything. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }

    /// ministack's URL: AWS, all but EC2.
    pub fn endpoint(&self) -> &str {
        self.aws.endpoint()
    }

    /// The gate's URL: EC2.
    pub fn ec2_endpoint(&self) -> &str {
        self.ec2.endpoint()
    }

    /// Graphite's URL, which serves `/render`.
    pub fn graphite_url(&self) -> &str {
        &self.graphite.url
    }

    /// `host:port` where carbon takes lines of `name value unixtime`.
    pub fn carbon_addr(&self) -> &str {
        &self.graphite.carbon
    }

    /// The gate, to inject faults and count calls.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// A signed client of everything but EC2.
    pub fn aws(&self) -> &AwsClient {
        &self.aws
    }

    /// A signed client of EC2, through the gate.
    pub fn ec2(&self) -> &AwsClient {
        &self.ec2
    }

    /// Where the parts' logs are.
    pub fn log_dir(&self) -> &Path {
        &self.log_dir
    }

    /// The environment in which an AWS SDK talks to this cloud with the account's root credentials.
    pub fn env(&self) -> Vec<(String, String)> {
        sdk_env(self.endpoint(), self.ec2_endpoint())
    }
}

fn sdk_env(endpoint: &str, ec2_endpoint: &str) -> Vec<(String, String)> {
    let pairs = [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ENDPOINT_URL_EC2", ec2_endpoint),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

async fn start_ministack(dir: &Path, log_dir: &Path, ec2_endpoint: &str) -> Result<(String, Service), Error> {
    let [port] = free_ports()?;
    let url = format!("http://127.0.0.1:{port}");
    let mut env = sdk_env(&url, ec2_endpoint);
    let port = port.to_string();
    let settings = [
        ("BIND_HOST", "127.0.0.1"),
        ("GATEWAY_PORT", port.as_str()),
        // IAM is enforced: a function may do what its role in the template allows and nothing else.
        ("AUTH", "true"),
        ("MINISTACK_REGION", REGION),
        // These would listen on fixed ports.
        ("IOT_MTLS_ENABLED", "0"),
        ("SFTP_ENABLED", "0"),
        ("PYTHONUNBUFFERED", "1"),
    ];
    env.extend(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let mut env: Vec<_> = env.into_iter().map(|(name, value)| (name, value.into())).collect();
    env.push(("TMPDIR".into(), dir.into()));

    let path = tools::tool("cloud", "ministack")?;
    let program = Program { name: "ministack", path, args: Vec::new(), env, dir: dir.to_path_buf() };
    let mut service = Service::spawn(&program, log_dir)?;
    service.wait_ready(READY, async || answers(&format!("{url}/_ministack/ready")).await).await?;
    Ok((url, service))
}

/// Whether a GET is answered with success.
pub(crate) async fn answers(url: &str) -> bool {
    let Ok(http) = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build() else { return false };
    http.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
}

fn make_dir(path: PathBuf) -> Result<PathBuf, Error> {
    std::fs::create_dir_all(&path).map_err(Error::io(format!("create {}", path.display())))?;
    path.canonicalize().map_err(Error::io(format!("find {}", path.display())))
}
