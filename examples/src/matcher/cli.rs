//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser};
use gpu_host::DeviceChoice;
use gpu_kernels::matcher::{Order, Shape};

use super::generate::Plan;
use super::search::{Task, Warps};
use crate::device::{DeviceArgs, parse_size};

/// Find images in databases of images, with the threads of a GPU.
///
/// For each image of the queries, the nearest images of the databases are found, or the first ones, within
/// a Euclidean distance of their pixels. The databases are opened and read by the device's threads
/// themselves, through a page cache in device memory, and may be larger than that.
#[derive(Debug, Parser)]
#[command(
    name = "matcher",
    override_usage = "\
matcher --queries PATH... --databases PATH... --threshold T [OPTION]...
       matcher --pack FILE --databases PATH [--size WxH] [--color]
       matcher --generate DIR [--images N] [--databases K] [--seed S] [--pictures]",
    after_help = "\
A PATH is a directory of images, a record file, a directory of these (*.records), or an image. Images \
are brought to the shape of the record files, or to --size; those of databases are packed into record \
files in the user's cache (XDG_CACHE_HOME), and packed again when they have changed.\n\n\
On a terminal the matches are shown in columns, else with tabs between the fields: query, distance, \
database, image.\n\n\
Exit status: 0 if a query has a match, 1 if none has, 2 if an error occurred."
)]
struct Args {
    /// Images to look for
    #[arg(long, value_name = "PATH", num_args = 1.., help_heading = "Search")]
    queries: Vec<PathBuf>,
    /// Where to look for them, in this order; with --generate, how many to make
    #[arg(long, value_name = "PATH", num_args = 1.., help_heading = "Search")]
    databases: Vec<PathBuf>,
    /// The greatest distance of a match: the root of the sum of the squares of all bytes' differences
    #[arg(long, value_name = "T", allow_negative_numbers = true, help_heading = "Search")]
    threshold: Option<f64>,
    /// Keep the nearest matches (default)
    #[arg(long, overrides_with = "first", help_heading = "Search")]
    best: bool,
    /// Keep those that come first, and end when all queries have them
    #[arg(long, overrides_with = "best", help_heading = "Search")]
    first: bool,
    /// How many matches to keep for each query
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Search")]
    matches: u32,

    /// Write one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Also write a page that shows each query beside its matches, images included
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    html: Option<PathBuf>,

    /// Width and height of the records
    #[arg(long, value_name = "WxH", value_parser = parse_sides, help_heading = "Images")]
    size: Option<(u32, u32)>,
    /// Records in colour: red, green and blue instead of gray
    #[arg(long, help_heading = "Images")]
    color: bool,
    /// Pack the images of --databases into this record file, and end
    #[arg(long, value_name = "FILE", conflicts_with_all = ["queries", "generate"], help_heading = "Images")]
    pack: Option<PathBuf>,

    /// Make queries and databases of synthetic images in this directory, and end
    #[arg(long, value_name = "DIR", conflicts_with = "queries", help_heading = "Synthetic images")]
    generate: Option<PathBuf>,
    /// Images of each database
    #[arg(long, value_name = "N", default_value_t = 1000, help_heading = "Synthetic images")]
    images: u64,
    /// The same number makes the same images
    #[arg(long, value_name = "S", default_value_t = 1, help_heading = "Synthetic images")]
    seed: u64,
    /// Databases are directories of PNG files in colour instead of record files
    #[arg(long, help_heading = "Synthetic images")]
    pictures: bool,

    #[command(flatten)]
    device: DeviceArgs,
    /// Bytes of the page cache in device memory
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_size, help_heading = "Device")]
    cache_size: u64,
    /// Bytes of a page: a power of two, 4K to 2M
    #[arg(long, value_name = "SIZE", default_value = "256K", value_parser = parse_size, help_heading = "Device")]
    page_size: u64,
    /// Warps of a launch [default: 1024 on a GPU, else two for each of the host's cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536), help_heading = "Device")]
    grid: Option<u32>,
    /// Threads of a warp [default: 1 where it is emulated, else 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32), help_heading = "Device")]
    lanes: Option<u32>,
    /// Print what the device did to standard error
    #[arg(long, help_heading = "Device")]
    stats: bool,
}

/// Settings of the device.
#[derive(Clone, Debug)]
pub struct DeviceSettings {
    /// Which it is.
    pub which: DeviceArgs,
    /// Bytes of the page cache.
    pub cache_size: u64,
    /// Bytes of a page.
    pub page_size: u32,
    /// The launch.
    pub warps: Warps,
    /// Whether to print what the device did.
    pub stats: bool,
}

/// A search.
#[derive(Clone, Debug)]
pub struct Search {
    /// What to look for.
    pub queries: Vec<PathBuf>,
    /// Where.
    pub databases: Vec<PathBuf>,
    /// The shape that was asked for.
    pub shape: Option<Shape>,
    /// What to find.
    pub task: Task,
    /// The greatest distance of a match.
    pub threshold: f64,
    /// Whether to write JSON.
    pub json: bool,
    /// Where a page goes.
    pub html: Option<PathBuf>,
    /// What to do it on.
    pub device: DeviceSettings,
}

/// A command line, understood.
#[derive(Clone, Debug)]
pub enum Command {
    /// Look for images.
    Search(Box<Search>),
    /// Make a record file.
    Pack {
        /// Which.
        to: PathBuf,
        /// Of which images.
        from: PathBuf,
        /// In which shape.
        shape: Shape,
    },
    /// Make synthetic images.
    Generate {
        /// Where.
        dir: PathBuf,
        /// Which.
        plan: Plan,
    },
}

/// Queries of a generated set.
const QUERIES: u64 = 16;

/// Reads a command line.
///
/// # Errors
/// A message. Clap's own are printed, and end the program with status 2, as is the help.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let matches = Args::command().get_matches_from(arguments);
    let args = Args::from_arg_matches(&matches).map_err(|e| e.to_string())?;
    let shape = |(width, height)| Shape { width, height, channels: if args.color { 3 } else { 1 } };
    let asked = args.size.or(args.color.then_some((64, 64))).map(shape);
    let shape = asked.unwrap_or(shape((64, 64)));
    if let Some(dir) = args.generate {
        let databases = match &args.databases[..] {
            [] => 3,
            [one] => one.to_str().and_then(|n| n.parse().ok()).ok_or_else(|| {
                format!("{}: with --generate, --databases is a number", one.display())
            })?,
            _ => return Err("with --generate, --databases is one number".into()),
        };
        let Args { images, seed, pictures, .. } = args;
        let plan = Plan { images, databases, queries: QUERIES, seed, shape, pictures };
        return Ok(Command::Generate { dir, plan });
    }
    if let Some(to) = args.pack {
        return match <[PathBuf; 1]>::try_from(args.databases) {
            Ok([from]) => Ok(Command::Pack { to, from, shape }),
            Err(_) => Err("--pack makes one file of one --databases".into()),
        };
    }
    let needed = |given: &[PathBuf], name: &str| match given {
        [] => Err(format!("{name} is missing; --help tells what there is")),
        _ => Ok(()),
    };
    needed(&args.queries, "--queries")?;
    needed(&args.databases, "--databases")?;
    let threshold = args.threshold.ok_or("--threshold is missing; --help tells what there is")?;
    if threshold.is_nan() || threshold < 0.0 {
        return Err(format!("a threshold of {threshold}: it is 0 or more"));
    }
    let emulated = !args.device.device.needs_module();
    let on_gpu = matches!(args.device.device, DeviceChoice::Cuda(_));
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
    let warps = Warps {
        count: args.grid.unwrap_or(if on_gpu { 1024 } else { 2 * cores }),
        lanes: args.lanes.unwrap_or(if emulated { 1 } else { 32 }),
    };
    let order = if args.first { Order::First } else { Order::Best };
    Ok(Command::Search(Box::new(Search {
        queries: args.queries,
        databases: args.databases,
        shape: asked,
        task: Task { limit: Task::limit(threshold), order, keep: args.matches },
        threshold,
        json: args.json,
        html: args.html,
        device: DeviceSettings {
            which: args.device,
            cache_size: args.cache_size,
            page_size: u32::try_from(args.page_size).map_err(|_| "page size too large")?,
            warps,
            stats: args.stats,
        },
    })))
}

fn parse_sides(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    sides.ok_or_else(|| format!("'{text}' is not a size such as 64x64"))
}
