//! What was found, as a page for a browser: each query beside its matches, all in one file.

use std::fmt::Write;
use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gpu_kernels::matcher::Shape;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};

use super::images;
use super::output::Results;
use super::records::Origin;

/// The longer side of an image on the page, in pixels.
const SIDE: u32 = 256;

/// An image as it will be shown: the file that a record was made from, as long as it is there, else the
/// record itself.
pub fn picture(origin: &Origin, shape: Shape, record: &[u8]) -> Option<DynamicImage> {
    let whole = origin.file.as_deref().and_then(|file| images::decode(file).ok());
    let whole = whole.or_else(|| {
        let pixels = record.get(..shape.pixel_bytes()? as usize)?.to_vec();
        let (width, height) = (shape.width, shape.height);
        Some(match shape.channels {
            1 => GrayImage::from_raw(width, height, pixels)?.into(),
            _ => RgbImage::from_raw(width, height, pixels)?.into(),
        })
    })?;
    Some(if whole.width().max(whole.height()) > SIDE { whole.thumbnail(SIDE, SIDE) } else { whole })
}

/// More pixels than these are not kept to the bit: photographs would make large pages.
const EXACT_PIXELS: u32 = 128 * 128;

/// The image as a URI that needs no other file.
fn data_uri(picture: &DynamicImage) -> String {
    let picture = match picture.color().has_color() {
        true => DynamicImage::ImageRgb8(picture.to_rgb8()),
        false => DynamicImage::ImageLuma8(picture.to_luma8()),
    };
    let mut bytes = Cursor::new(Vec::new());
    let (kind, written) = if picture.width() * picture.height() > EXACT_PIXELS {
        ("jpeg", picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 85)))
    } else {
        ("png", picture.write_to(&mut bytes, ImageFormat::Png))
    };
    match written {
        Ok(()) => format!("data:image/{kind};base64,{}", STANDARD.encode(bytes.into_inner())),
        // It is in memory, so this does not come about.
        Err(_) => String::new(),
    }
}

fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}

const STYLE: &str = "\
:root{--ink:#1c2024;--soft:#667079;--line:#e3e6ea;--paper:#f6f7f9;--card:#fff;--mark:#0b6bcb;--good:#117a43}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#9aa3ab;--line:#30353b;--paper:#15181b;\
--card:#1d2125;--mark:#6cb3ff;--good:#5cd08f}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:2.5rem 1.5rem 4rem;background:var(--paper);color:var(--ink);\
font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}
h1{margin:0;font-size:1.6rem;font-weight:650}
header p{margin:.25rem 0 1.75rem;color:var(--soft)}
section{display:grid;grid-template-columns:9.5rem 1fr;gap:1.5rem;margin:0 0 1rem;padding:1.25rem;\
background:var(--card);border:1px solid var(--line);border-radius:12px}
.matches{display:flex;flex-wrap:wrap;gap:1.25rem;padding-left:1.5rem;border-left:1px solid var(--line)}
figure{margin:0;width:9.5rem}
img{display:block;width:100%;height:9.5rem;object-fit:contain;border-radius:8px;background:var(--paper)}
figcaption{margin-top:.5rem;font-size:.85rem;line-height:1.35;overflow-wrap:anywhere}
figcaption span{display:block;color:var(--soft)}
figcaption b{display:block;font-weight:600;color:var(--mark);font-variant-numeric:tabular-nums}
figcaption b.same{color:var(--good)}
.none{align-self:center;margin:0;color:var(--soft)}
@media (max-width:40rem){section{grid-template-columns:1fr}.matches{padding:1rem 0 0;border-left:0;\
border-top:1px solid var(--line)}}
";

fn figure(out: &mut String, image: Option<&DynamicImage>, name: &str, caption: &str) {
    let (name, uri) = (escape(name), image.map(data_uri).unwrap_or_default());
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<figure><img src=\"{uri}\" alt=\"{name}\"><figcaption>{caption}{name}</figcaption></figure>"
    );
}

/// The page. `queries` and `found` are the pictures of the results' queries and matches, in order.
pub fn page(
    results: &Results,
    queries: &[Option<DynamicImage>],
    found: &[Vec<Option<DynamicImage>>],
) -> String {
    let (matched, all) = (results.matched(), results.queries.len());
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Matches</title>\n\
         <style>\n{STYLE}</style>\n<header><h1>Matches</h1>\n<p>{matched} of {all} queries have a match \
         within a distance of {}</p></header>\n<main>\n",
        results.threshold
    );
    for (number, query) in results.queries.iter().enumerate() {
        out.push_str("<section>\n");
        figure(&mut out, queries[number].as_ref(), &query.name, "<span>Query</span>");
        out.push_str("<div class=\"matches\">\n");
        if results.matches[number].is_empty() {
            out.push_str("<p class=\"none\">No match</p>\n");
        }
        for (m, picture) in results.matches[number].iter().zip(&found[number]) {
            let distance = match m.found.squared {
                0 => "<b class=\"same\">Identical</b>".to_owned(),
                _ => format!("<b>Distance {:.1}</b>", m.found.distance()),
            };
            // Long paths are broken between their parts first.
            let database = escape(&m.database).replace('/', "/<wbr>");
            let caption = format!("{distance}<span>{database}</span>");
            figure(&mut out, picture.as_ref(), &m.origin.name, &caption);
        }
        out.push_str("</div>\n</section>\n");
    }
    out.push_str("</main>\n</html>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { width: 2, height: 3, channels: 3 };

    #[test]
    fn names_are_text_and_images_are_inside() {
        let results = super::super::output::tests::results();
        let picture = picture(&Origin::default(), SHAPE, &[200; 256]);
        assert_eq!(picture.as_ref().map(|p| (p.width(), p.height())), Some((2, 3)));
        let queries = [picture.clone(), picture.clone()];
        let page = page(&results, &queries, &[vec![picture.clone(), picture], vec![]]);
        assert!(page.contains("&lt;cat&gt;.png") && !page.contains("<cat>"));
        assert_eq!(page.matches("src=\"data:image/png;base64,iVBORw0KGgo").count(), 4);
        assert!(page.contains("Identical") && page.contains("Distance 15.8"));
        assert!(page.contains("No match"));
        // Nothing is fetched from anywhere.
        assert!(!page.contains("http") && !page.contains("url("));
    }

    #[test]
    fn the_file_is_shown_rather_than_the_record() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("wide.png");
        RgbImage::new(1000, 10).save(&file).unwrap();
        let origin = Origin { name: "wide.png".into(), file: Some(file.clone()) };
        assert_eq!(picture(&origin, SHAPE, &[0; 256]).unwrap().width(), SIDE);
        std::fs::remove_file(file).unwrap();
        assert_eq!(picture(&origin, SHAPE, &[0; 256]).unwrap().width(), 2);
        assert!(picture(&origin, SHAPE, &[0; 4]).is_none());
    }
}
