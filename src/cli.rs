//! The command line, as clap types only. What each command does is in [`crate::command`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use crate::provider::ProviderKind;

/// Stand a Kubernetes stack up, drive load at it, break it, and prove whether it recovers.
#[derive(Debug, Parser)]
#[command(name = "mettle", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Where the cluster comes from
    #[arg(long, global = true, value_enum, default_value_t = ProviderKind::Local, env = "METTLE_CLUSTER")]
    pub cluster: ProviderKind,
    /// Name of the cluster
    #[arg(long, global = true, default_value = "mettle", env = "METTLE_NAME")]
    pub name: String,
    /// Print JSON where a person would read a table
    #[arg(long, global = true)]
    pub json: bool,
    /// Answer yes to every question
    #[arg(long, global = true)]
    pub yes: bool,
    /// More detail on standard error; twice for debug
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the cluster and the stack up; resumes where an earlier `up` stopped
    Up(UpArgs),
    /// Take the cluster down and leave nothing of it behind; of a kubeconfig's cluster only the stack
    Down(DownArgs),
    /// Show the cluster, its nodes and the stack on it
    Status,
    /// Kill, start or list the nodes of the cluster
    Node(NodeArgs),
    /// Show what a run would do: targets, changes, their undo, limits; changes nothing
    Plan(PlanArgs),
    /// Run experiments or suites, ours or of Chaos Toolkit, and give a verdict
    Run(RunArgs),
    /// Try faults one after another: whether each bites here, how fast, and whether anything is left
    Rehearse(RehearseArgs),
    /// Print experiments of Chaos Mesh or Chaos Toolkit as a rehearsal; what cannot be translated is named on standard error
    Translate(TranslateArgs),
    /// Print the rights that experiments need, as Roles for `kubectl apply`
    Rbac(RbacArgs),
    /// Destroy a store's data on purpose, restore them from the backup, and compare with what was acknowledged
    Drill(DrillArgs),
    /// Undo what an interrupted run left behind
    Revert(RevertArgs),
    /// Check that the stack is what the guide promises, row by row
    Verify(VerifyArgs),
    /// Show every promise of the deployment guide: built or not, and which run proved it
    Claims(ClaimsArgs),
    /// Print the report of an earlier run
    Report(ReportArgs),
    /// Judge an earlier run again from its files, without a cluster: the same evidence must give the same verdict
    Judge(JudgeArgs),
    /// Say whether a later run is worse than an earlier one by more than a margin
    Compare(CompareArgs),
    /// List faults, checks, experiments, suites, scenarios or clusters
    List(ListArgs),
    /// Check whether this machine can do what mettle needs, and say what to do if not
    Doctor(DoctorArgs),
    /// Processes that mettle starts for itself
    #[command(subcommand, hide = true)]
    Internal(Internal),
}

#[derive(Debug, Clone, Default, Args)]
pub struct UpArgs {
    /// Only the cluster, or only the stack on a cluster that stands
    #[arg(long, value_enum)]
    pub only: Option<UpOnly>,
    /// Overlay of the stack to apply: a name under stack/overlays, or a directory; the provider's own when absent
    #[arg(long)]
    pub overlay: Option<String>,
    /// Only these components of the stack, by their label app.kubernetes.io/name
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub components: Vec<String>,
    /// Directory with Kubernetes binaries to use before any other source
    #[arg(long, env = "METTLE_BIN_DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Push the images to this registry, and let the nodes pull them from there: registry.example/team
    #[arg(long, value_name = "PREFIX", env = "METTLE_IMAGE_REGISTRY", conflicts_with = "preloaded")]
    pub registry: Option<String>,
    /// With --cluster current: every node has the images already
    #[arg(long)]
    pub preloaded: bool,
    /// With --cluster current: use namespaces and cluster-wide objects that mettle did not make
    #[arg(long)]
    pub adopt_namespaces: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UpOnly {
    /// The cluster without the stack
    Cluster,
    /// The stack, on a cluster that stands
    Stack,
    /// Binaries and images into the cache, no cluster
    Cache,
}

#[derive(Debug, Clone, Default, Args)]
pub struct DownArgs {
    /// Every cluster that mettle made on this machine with this provider
    #[arg(long)]
    pub all: bool,
    /// With --cluster current: the overlay that was applied
    #[arg(long)]
    pub overlay: Option<String>,
    /// With --cluster current: also the stack's objects in namespaces that mettle did not make
    #[arg(long)]
    pub adopt_namespaces: bool,
}

#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    #[command(subcommand)]
    pub action: NodeAction,
}

#[derive(Debug, Clone, Subcommand)]
pub enum NodeAction {
    /// Power a node off at once: every process on it dies and its link goes down
    Kill { node: String },
    /// Power a killed node on again
    Start { node: String },
    /// List the nodes
    List,
}

#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// Experiment, suite or rehearsal files; or experiments of Chaos Mesh or Chaos Toolkit
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Seed of every choice; drawn and printed when absent
    #[arg(long)]
    pub seed: Option<u64>,
}

#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Experiment or suite files; or whole experiments of Chaos Toolkit
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Directory for report.json, timeline.jsonl, junit.xml and logs
    #[arg(long, default_value = "out")]
    pub out: PathBuf,
    /// Seed of every choice; drawn and printed when absent
    #[arg(long)]
    pub seed: Option<u64>,
    /// How often each experiment; from the second on with seeds derived from the first
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeat: u32,
    /// Before each, the same without a fault: an effect that is seen there, too, proves nothing
    #[arg(long)]
    pub control: bool,
    /// Bring the cluster and the stack up first when they do not stand
    #[arg(long)]
    pub up: bool,
    /// With --up: only these components of the stack
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", requires = "up")]
    pub components: Vec<String>,
    /// Take the cluster down afterwards, whatever the verdict
    #[arg(long)]
    pub down: bool,
    /// Experiments of Chaos Toolkit may call the addresses that they name
    #[arg(long)]
    pub allow_http: bool,
    /// Experiments of Chaos Toolkit may run the programs that they name, on this machine and as this user
    #[arg(long)]
    pub allow_process: bool,
}

#[derive(Debug, Clone, Args)]
pub struct RehearseArgs {
    /// Rehearsal file; or an experiment of Chaos Mesh or Chaos Toolkit, when all of it can be translated
    #[arg(default_value = "experiments/rehearsals/catalogue.yaml")]
    pub file: PathBuf,
    /// Only these faults
    #[arg(long, value_delimiter = ',', value_name = "KIND,…")]
    pub only: Vec<String>,
    /// How often each; more than once gives medians
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    /// Seed of every choice; drawn and printed when absent
    #[arg(long)]
    pub seed: Option<u64>,
    /// Also write the rows to this file, as JSON, after each
    #[arg(long)]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct TranslateArgs {
    /// Files of Chaos Mesh or Chaos Toolkit, YAML or JSON; their faults come one after another
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct RbacArgs {
    /// Experiment, suite or rehearsal files; or experiments of Chaos Mesh or Chaos Toolkit
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Bind the Roles to this service account
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "ai-platform/mettle")]
    pub service_account: String,
}

#[derive(Debug, Clone, Args)]
pub struct DrillArgs {
    /// Drill files
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Yes, destroy the data that the drills name, in the stack that stands on this cluster
    #[arg(long)]
    pub destroy_data: bool,
    /// Directory for report.json, timeline.jsonl, junit.xml and logs
    #[arg(long, default_value = "out")]
    pub out: PathBuf,
    /// Seed of every choice; drawn and printed when absent
    #[arg(long)]
    pub seed: Option<u64>,
    /// How often each drill; from the second on with seeds derived from the first
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub repeat: u32,
}

#[derive(Debug, Clone, Args)]
pub struct RevertArgs {
    /// The journal to revert; every unreverted journal of the cluster when absent
    #[arg(long)]
    pub journal: Option<PathBuf>,
    /// Where somebody else changed since what was edited: put back what was there before the fault, and say what that
    /// overwrites
    #[arg(long)]
    pub force: bool,
    /// Where somebody else changed since what was edited: leave it as it is, take our marks off, and close its entry
    #[arg(long, conflicts_with = "force")]
    pub abandon: bool,
}

#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// Use the stack, too: journeys of a user, 2000 sessions, pods that must be refused. Leaves the users and models of
    /// the journeys in the platform; needs a stack that nobody else uses meanwhile
    #[arg(long)]
    pub deep: bool,
    /// Only what holds for a part of the stack (pods, services, autoscalers, members, logs): for one that was brought up
    /// with `up --components`
    #[arg(long, conflicts_with_all = ["deep", "out"])]
    pub part: bool,
    /// The overlay that `up` applied: a name under stack/overlays, or a directory; the provider's own when absent
    #[arg(long)]
    pub overlay: Option<String>,
    /// Directory for report.json, which `mettle claims` reads
    #[arg(long)]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct ClaimsArgs {
    /// Directories that hold reports of runs; searched to a depth of four
    #[arg(default_value = "out")]
    pub reports: Vec<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Directory of a run, or its report.json
    #[arg(default_value = "out")]
    pub path: PathBuf,
    /// Print the JSON schema of report.json and exit
    #[arg(long)]
    pub schema: bool,
}

#[derive(Debug, Clone, Args)]
pub struct JudgeArgs {
    /// Directory of a run
    #[arg(default_value = "out")]
    pub path: PathBuf,
    /// Judge by the `expect` of this experiment file instead: the same evidence under other bounds
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// Directory of the earlier run, or its report.json
    pub before: PathBuf,
    /// Directory of the later run, or its report.json
    pub after: PathBuf,
    /// How much worse a figure may be, as a share of the earlier one
    #[arg(long, default_value = "20%", value_parser = percent, value_name = "PERCENT")]
    pub margin: f64,
    /// … and at least so many seconds of recovery
    #[arg(long, default_value_t = 1.0, value_parser = positive, value_name = "SECONDS")]
    pub floor_seconds: f64,
    /// … so many percentage points of errors
    #[arg(long, default_value_t = 1.0, value_parser = positive, value_name = "POINTS")]
    pub floor_percent: f64,
    /// … so many milliseconds of latency
    #[arg(long, default_value_t = 20.0, value_parser = positive, value_name = "MS")]
    pub floor_ms: f64,
}

/// `20%` or `20`.
fn percent(text: &str) -> Result<f64, String> {
    positive(text.trim_end_matches('%'))
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1e6).contains(&value) => Ok(value),
        _ => Err("must be a number, 0 or more".to_owned()),
    }
}

#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    #[arg(value_enum)]
    pub what: ListWhat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListWhat {
    Faults,
    Checks,
    Experiments,
    Suites,
    Scenarios,
    Clusters,
    Images,
}

#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Only say what is missing, as package names for the system's package manager
    #[arg(long)]
    pub packages: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Internal {
    /// Process 1 of a node or of the control plane: starts and restarts its processes
    Supervise {
        /// JSON file that lists the processes
        #[arg(long)]
        spec: PathBuf,
    },
    /// Enforces NetworkPolicies on one node with nftables
    Netpol {
        #[arg(long)]
        kubeconfig: PathBuf,
        #[arg(long)]
        node: String,
        /// Path of nft
        #[arg(long, default_value = "nft")]
        nft: PathBuf,
    },
    /// The load generator, as a child of a run
    Load {
        /// JSON file that describes the load
        #[arg(long)]
        spec: PathBuf,
    },
}
