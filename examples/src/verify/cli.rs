//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Parser};
use gpu_kernels::verify::lbp::{Method, Shape, UNIT};

use crate::device::parse_size;
use crate::serve::ServeArgs;

/// Verify faces in a GPU kernel: does an image show the person that it is claimed to show?
///
/// With --listen, persistent warps accept connections, receive identities and gray images, count local binary
/// patterns, read the identities' references through a page cache in device memory, and answer with the
/// distance. The host only moves bytes.
///
/// With --connect, many connections send faces and compare every reply with what plain code computed before.
///
/// With --generate or --enroll, a store of references is made, of synthetic faces or of image files.
#[derive(Debug, Parser)]
#[command(
    name = "verify",
    group = ArgGroup::new("mode").required(true).args(["listen", "connect", "generate", "enroll"]),
    mut_arg("connections", |arg| arg.help(
        "Connections at once. A server lets others wait in the system's queue [default: 4096]; \
         a client makes as many [default: 16]"
    ).help_heading("Server and client")),
    override_usage = "\
verify --generate DIR [--identities N] [--seed S] [--size WxH] [--grid CxR] [--method M]
       verify --enroll DIR --images DIR [--size WxH] [--grid CxR] [--method M]
       verify --listen ADDR --store DIR [--threshold T] [OPTION]...
       verify --connect ADDR --store DIR [--connections N | --sweep N,N,...] [OPTION]...",
    after_help = "\
A distance is the chi-square one of the cells' pattern frequencies, the mean over all cells: 0 for equal images, \
2 for such as have no pattern in common.\n\n\
Exit status: 0 if all went well, 1 if a reply was wrong, 2 if an error occurred."
)]
pub struct Cli {
    /// Serve at this address; port 0 picks a free one. The first line printed is the address
    #[arg(long, value_name = "ADDR", requires = "store")]
    pub listen: Option<SocketAddr>,
    /// Measure and check the server at this address
    #[arg(long, value_name = "ADDR", requires = "store")]
    pub connect: Option<SocketAddr>,
    /// Make a store of synthetic faces in this directory
    #[arg(long, value_name = "DIR")]
    pub generate: Option<PathBuf>,
    /// Make a store in this directory of the image files below --images, each by its name
    #[arg(long, value_name = "DIR", requires = "images")]
    pub enroll: Option<PathBuf>,

    /// The store's directory; a client takes from it what replies should be
    #[arg(long, value_name = "DIR", help_heading = "Server and client")]
    pub store: Option<PathBuf>,
    /// The greatest distance to accept: 0 to 2. A client's is sent with each request, unless it leaves it to
    /// the server [default of a server: 0.25]
    #[arg(long, value_name = "T", value_parser = parse_threshold, help_heading = "Server and client")]
    pub threshold: Option<f64>,

    /// What all servers have.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Bytes of the page cache in device memory
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_size, help_heading = "Server")]
    pub cache_size: u64,
    /// Bytes of a page: a power of two, 4K to 2M
    #[arg(long, value_name = "SIZE", default_value = "64K", value_parser = parse_size, help_heading = "Server")]
    pub page_size: u64,
    /// Print what the page cache counted to standard error, at the end
    #[arg(long, help_heading = "Server")]
    pub stats: bool,

    /// Measure with each of these numbers of connections
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', conflicts_with = "connections", value_parser = clap::value_parser!(u32).range(1..=65_536), help_heading = "Client")]
    pub sweep: Vec<u32>,
    /// End a measurement after so many requests
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Client")]
    pub requests: Option<u64>,
    /// End a measurement after this time
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, help_heading = "Client")]
    pub duration: f64,
    /// Different requests, which are sent again and again
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Client")]
    pub probes: u32,
    /// Draw the latencies: of one measurement their distribution, of a --sweep those over the throughput
    #[arg(long, value_name = "FILE.svg", help_heading = "Client")]
    pub plot: Option<PathBuf>,
    /// Write one JSON object
    #[arg(long, help_heading = "Client")]
    pub json: bool,

    /// Image files: those to enrol, or a client's instead of synthetic faces; called as the identities
    #[arg(long, value_name = "DIR", help_heading = "Images")]
    pub images: Option<PathBuf>,
    /// Persons of a generated store
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000), help_heading = "Images")]
    pub identities: u32,
    /// The same number makes the same faces, and the same requests
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Images")]
    pub seed: u64,
    /// Width and height of the images
    #[arg(long, value_name = "WxH", default_value = "128x128", value_parser = parse_sides, help_heading = "Images")]
    pub size: (u32, u32),
    /// Cells that images are cut into: columns and rows
    #[arg(long, value_name = "CxR", default_value = "8x8", value_parser = parse_sides, help_heading = "Images")]
    pub grid: (u32, u32),
    /// How patterns are sorted into bins, as in scikit-image: default (256), uniform (10), nri_uniform (59)
    #[arg(long, value_name = "M", default_value = "nri_uniform", value_parser = parse_method, help_heading = "Images")]
    pub method: Method,
}

impl Cli {
    /// The shape of a store's images.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let ((width, height), (columns, rows)) = (self.size, self.grid);
        Shape { width, height, columns, rows }
    }
}

/// A threshold as it is sent.
#[must_use]
pub fn raw_threshold(threshold: f64, shape: Shape) -> u64 {
    // At most 2 · 2¹⁶ · 2¹⁶.
    (threshold * shape.pixels() as f64 * UNIT as f64).round() as u64
}

fn parse_threshold(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=2.0).contains(value));
    value.ok_or_else(|| format!("'{text}' is not a number from 0 to 2"))
}

fn parse_sides(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    sides.ok_or_else(|| format!("'{text}' is not such as 128x128"))
}

/// The name of a method.
#[must_use]
pub fn method_name(method: Method) -> &'static str {
    match method {
        Method::Default => "default",
        Method::Uniform => "uniform",
        Method::NriUniform => "nri_uniform",
    }
}

fn parse_method(text: &str) -> Result<Method, String> {
    let method = Method::ALL.into_iter().find(|method| method_name(*method) == text);
    method.ok_or_else(|| format!("'{text}' is none of default, uniform, nri_uniform"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, String> {
        let words = std::iter::once("verify").chain(line.split_whitespace());
        Cli::try_parse_from(words).map_err(|e| e.to_string())
    }

    #[test]
    fn one_thing_at_a_time() {
        assert!(parse("--generate d --size 64x48 --grid 4x3 --method uniform").is_ok());
        assert!(parse("--connect 127.0.0.1:1 --store d --sweep 1,2,4 --requests 10").is_ok());
        for (line, said) in [
            ("", "--listen"),
            ("--listen 127.0.0.1:0", "--store"),
            ("--enroll d", "--images"),
            ("--generate d --enroll e --images f", "cannot be used"),
            ("--listen 127.0.0.1:0 --store d --threshold 2.5", "from 0 to 2"),
            ("--generate d --method ror", "nri_uniform"),
            ("--connect 127.0.0.1:1 --store d --sweep 0", "1..=65536"),
            ("--connect 127.0.0.1:1 --store d --requests 5 --duration 2", "cannot be used"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
    }

    #[test]
    fn thresholds_are_for_all_pixels() {
        let shape = Shape { width: 128, height: 128, columns: 8, rows: 8 };
        assert_eq!(raw_threshold(0.0, shape), 0);
        assert_eq!(raw_threshold(2.0, shape), 2 * 128 * 128 * UNIT);
    }
}
