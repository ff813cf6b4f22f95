//! A real Graphite: carbon-cache takes points in, graphite-web answers `/render`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::service::{Program, Service, free_ports};
use crate::{Error, tools};

/// Start-up of Django on a busy machine.
const READY: Duration = Duration::from_secs(180);

/// A running Graphite.
#[derive(Debug)]
pub(crate) struct Graphite {
    /// `http://…`, serves `/render`.
    pub url: String,
    /// `host:port` that takes `name value unixtime` lines.
    pub carbon: String,
    _services: [Service; 2],
}

/// Where its files are and which ports it uses.
struct Layout {
    dir: PathBuf,
    line: u16,
    pickle: u16,
    query: u16,
    web: u16,
}

impl Graphite {
    /// Starts it with its files below `dir`.
    pub(crate) async fn start(dir: &Path, log_dir: &Path) -> Result<Self, Error> {
        let [line, pickle, query, web] = free_ports()?;
        let layout = Layout { dir: dir.to_path_buf(), line, pickle, query, web };
        layout.write()?;

        layout.migrate()?.spawn_and_wait(log_dir).await?;
        let mut carbon = Service::spawn(&layout.carbon()?, log_dir)?;
        let mut django = Service::spawn(&layout.web()?, log_dir)?;
        carbon.wait_ready(READY, async || connects(line).await && connects(query).await).await?;
        let url = format!("http://127.0.0.1:{web}");
        let render = format!("{url}/render?target=ready&format=json");
        django.wait_ready(READY, async || crate::cloud::answers(&render).await).await?;
        Ok(Self { url, carbon: format!("127.0.0.1:{line}"), _services: [carbon, django] })
    }
}

async fn connects(port: u16) -> bool {
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

impl Program {
    async fn spawn_and_wait(self, log_dir: &Path) -> Result<(), Error> {
        Service::spawn(&self, log_dir)?.wait_done(READY).await
    }
}

impl Layout {
    fn write(&self) -> Result<(), Error> {
        let conf = self.dir.join("conf");
        let files = [
            ("conf/carbon.conf", self.carbon_conf()),
            ("conf/storage-schemas.conf", SCHEMAS.to_owned()),
            ("conf/storage-aggregation.conf", AGGREGATION.to_owned()),
            ("conf/local_settings.py", self.local_settings()),
            ("conf/cairocffi.py", CAIRO.to_owned()),
            ("storage/log/webapp/.keep", String::new()),
            ("storage/whisper/.keep", String::new()),
        ];
        for (name, text) in files {
            let path = self.dir.join(name);
            let parent = path.parent().unwrap_or(&conf);
            std::fs::create_dir_all(parent).map_err(Error::io(format!("create {}", parent.display())))?;
            std::fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))?;
        }
        Ok(())
    }

    fn carbon_conf(&self) -> String {
        let storage = self.dir.join("storage");
        let (line, pickle, query) = (self.line, self.pickle, self.query);
        format!(
            "[cache]\nSTORAGE_DIR = {0}\nCONF_DIR = {1}\nLOG_DIR = {0}/log\nLOCAL_DATA_DIR = {0}/whisper\n\
             LINE_RECEIVER_INTERFACE = 127.0.0.1\nLINE_RECEIVER_PORT = {line}\n\
             PICKLE_RECEIVER_INTERFACE = 127.0.0.1\nPICKLE_RECEIVER_PORT = {pickle}\n\
             CACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = {query}\n\
             ENABLE_UDP_LISTENER = False\nENABLE_TAGS = False\nMAX_CACHE_SIZE = inf\n\
             MAX_UPDATES_PER_SECOND = inf\nMAX_CREATES_PER_MINUTE = inf\nLOG_UPDATES = False\n",
            storage.display(),
            self.dir.join("conf").display(),
        )
    }

    fn local_settings(&self) -> String {
        let storage = self.dir.join("storage");
        format!(
            "SECRET_KEY = 'local'\nALLOWED_HOSTS = ['*']\nTIME_ZONE = 'UTC'\n\
             STORAGE_DIR = '{0}'\nWHISPER_DIR = '{0}/whisper'\nLOG_DIR = '{0}/log/webapp'\nINDEX_FILE = '{0}/index'\n\
             CONF_DIR = '{1}'\nSTANDARD_DIRS = ['{0}/whisper']\nCARBONLINK_HOSTS = ['127.0.0.1:{2}:a']\n\
             DATABASES = {{'default': {{'NAME': '{0}/graphite.db', 'ENGINE': 'django.db.backends.sqlite3'}}}}\n",
            storage.display(),
            self.dir.join("conf").display(),
            self.query,
        )
    }

    fn env(&self) -> Vec<(String, OsString)> {
        let conf = self.dir.join("conf");
        let pairs: [(&str, OsString); 6] = [
            ("GRAPHITE_ROOT", self.dir.clone().into()),
            ("GRAPHITE_CONF_DIR", conf.clone().into()),
            ("GRAPHITE_STORAGE_DIR", self.dir.join("storage").into()),
            ("PYTHONPATH", conf.into()),
            ("DJANGO_SETTINGS_MODULE", "graphite.settings".into()),
            ("PYTHONUNBUFFERED", "1".into()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn program(&self, name: &'static str, program: &str, args: &[&str]) -> Result<Program, Error> {
        let path = tools::tool("graphite", program)?;
        let args = args.iter().map(Into::into).collect();
        Ok(Program { name, path, args, env: self.env(), dir: self.dir.clone() })
    }

    fn carbon(&self) -> Result<Program, Error> {
        let config = format!("--config={}", self.dir.join("conf/carbon.conf").display());
        self.program("carbon", "carbon-cache.py", &[&config, "--nodaemon", "start"])
    }

    fn migrate(&self) -> Result<Program, Error> {
        self.program("graphite-migrate", "django-admin", &["migrate", "--run-syncdb"])
    }

    fn web(&self) -> Result<Program, Error> {
        let address = format!("127.0.0.1:{}", self.web);
        self.program("graphite-web", "django-admin", &["runserver", "--noreload", "--insecure", &address])
    }
}

/// One archive of one-minute points, now or in a replayed day. With a second, finer one for the last hours, points that
/// were written when they were older are not found once a query begins within its reach.
const SCHEMAS: &str = "[all]\npattern = .*\nretentions = 60s:14d\n";

/// Never asked for with one archive; carbon wants it.
const AGGREGATION: &str = "[all]\npattern = .*\nxFilesFactor = 0\naggregationMethod = average\n";

/// graphite-web imports cairo to draw images, which nobody asks it for: with this the library need not be installed.
const CAIRO: &str = "# Stands in for the drawing library: no image is ever asked for.\n";
