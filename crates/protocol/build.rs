//! Generates the messages of the wire protocol.
//!
//! Input: the schemas in `schema/`, one file per API; their format is described in
//! `build/parse.rs`. Output: `$OUT_DIR/messages.rs`, a module per schema with the structs and their
//! codecs, and the tables `$OUT_DIR/api_key.rs`, of the APIs, and `$OUT_DIR/metadata_record.rs`, of
//! the records of Kafka's metadata log. The files of these names in `src/`, and `src/lib.rs`,
//! include them.
//!
//! Invariants, checked here and in `build/schema.rs` before a line is written: a schema that could
//! produce a decoder that allocates without reading, or an encoder that loses data, fails the
//! build.

#[path = "build/emit.rs"]
mod emit;
#[path = "build/emit_codec.rs"]
mod emit_codec;
#[path = "build/emit_errors.rs"]
mod emit_errors;
#[path = "build/schema.rs"]
mod schema;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use schema::Schema;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=schema");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=build.rs");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let schemas = read_schemas(Path::new("schema"))?;
    fs::write(out_dir.join("messages.rs"), emit::messages(&schemas))?;
    fs::write(out_dir.join("api_key.rs"), emit::api_keys(&schemas))?;
    let records = emit::metadata_records(&schemas);
    fs::write(out_dir.join("metadata_record.rs"), records)?;
    Ok(())
}

/// All schemas of a directory, in the order of their API keys, those without one at the end.
fn read_schemas(directory: &Path) -> Result<Vec<Schema>, Box<dyn Error>> {
    let mut schemas = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let module = path.file_stem().and_then(|stem| stem.to_str());
        let module = module.ok_or("a schema's file name is not UTF-8")?;
        let text = fs::read_to_string(&path)?;
        let schema =
            Schema::parse(module, &text).map_err(|error| format!("{}:{error}", path.display()))?;
        schemas.push(schema);
    }
    schemas.sort_by_key(|schema| {
        let key = schema.api.as_ref().map_or(i16::MAX, |api| api.key);
        (key, schema.module.clone())
    });
    for pair in schemas.windows(2) {
        if let (Some(a), Some(b)) = (&pair[0].api, &pair[1].api)
            && a.key == b.key
        {
            return Err(format!("{} and {} both have key {}", a.name, b.name, a.key).into());
        }
    }
    Ok(schemas)
}
