//! The preview of a destination's message. Takes the mapping as saved or as just entered, and a conversion; returns the
//! value of each field and the complete request. The code that builds real messages builds the preview; nothing is sent.

use serde_json::Value;

use super::form::{self, RowItem};
use super::ledger;
use crate::conversion;
use crate::dashboard::form::FormData;
use crate::dashboard::frame::Viewer;
use crate::dashboard::views::{numbers, words};
use crate::destination::mapping::{self, Cell, Fault};
use crate::destination::{self, presets};
use crate::error::AppError;
use crate::report::{self, ConversionFilter};
use crate::settings::{self, Destination, Encoding};
use crate::state::AppState;

/// Number of conversions that the preview offers.
const SAMPLES: i64 = 10;

pub(super) struct MessagePart {
    pub(super) has_rows: bool,
    pub(super) rows: Vec<RowItem>,
    pub(super) presets: Vec<(&'static str, &'static str)>,
    pub(super) names: Vec<String>,
    pub(super) samples: Vec<(String, String, bool)>,
    /// `POST https://…k7Qe`.
    pub(super) request: String,
    pub(super) body: String,
}

/// A conversion for the preview.
pub(super) struct Sample {
    pub(super) id: String,
    pub(super) label: String,
    pub(super) names: Value,
    pub(super) outgoing: Option<destination::Outgoing>,
}

pub(super) async fn samples(
    state: &AppState,
    viewer: &Viewer,
    found: &Destination,
) -> Result<Vec<Sample>, AppError> {
    let filter = ConversionFilter {
        site_id: Some(viewer.site.id.clone()),
        paid: Some(true),
        ..ConversionFilter::default()
    };
    let newest = report::conversions(&state.store, &filter, None, SAMPLES).await?;
    let snapshot = state.settings.current();
    let mut samples = Vec::new();
    for row in newest.rows {
        let ledger = ledger(state, &snapshot);
        let Some(outgoing) = conversion::outgoing(&state.store, ledger, found, &row.id).await?
        else {
            continue;
        };
        samples.push(Sample {
            label: format!(
                "{} {} {}",
                words::kind(&row.kind),
                row.amount.map(numbers::money).unwrap_or_default(),
                row.transaction_id
            ),
            id: row.id,
            names: destination::names(&found.options, &outgoing),
            outgoing: Some(outgoing),
        });
    }
    samples.push(Sample {
        id: "sample".to_owned(),
        label: "Sample conversion with all fields".to_owned(),
        names: presets::sample(),
        outgoing: None,
    });
    Ok(samples)
}

pub(super) async fn message(
    draft: &Destination,
    form: &FormData,
    faults: &[Fault],
    samples: &[Sample],
) -> MessagePart {
    let chosen = form.text("sample");
    let sample = samples.iter().find(|sample| sample.id == chosen).or(samples.first());
    let names = sample.map(|sample| sample.names.clone()).unwrap_or_default();
    let options = &draft.options;
    let standard = presets::Preset::find(destination::kind(draft.kind).preset)
        .map(presets::Preset::rows)
        .unwrap_or_default();
    // Rows that are not used now are kept in the form.
    let typed = Some(form::rows(form)).filter(|rows| !rows.is_empty());
    let unused = typed.unwrap_or(standard);
    let rows = options.message.rows.as_ref().unwrap_or(&unused);
    let encoding =
        if options.message.rows.is_some() { options.message.encoding } else { Encoding::Json };
    let tried = {
        let (rows, names) = (rows.clone(), names);
        move || (mapping::evaluate(&rows, &names), mapping::build(&rows, &names, encoding))
    };
    let (results, built) = match destination::apart(tried).await {
        Ok((results, built)) => (results, built.unwrap_or_else(|fault| fault.message)),
        Err(why) => (Vec::new(), why),
    };
    let result = |result: &Result<Cell, Fault>| match result {
        Ok(Cell::Json(json)) => json.clone(),
        Ok(Cell::LeftOut) => "left out: no value".to_owned(),
        Err(fault) => fault.message.clone(),
    };
    let body = match sample.and_then(|sample| sample.outgoing.as_ref()) {
        Some(outgoing) => match destination::compose(draft, outgoing).await {
            Ok(message) => message.body,
            Err(destination::Unsent::Skipped(skip)) => {
                format!("This conversion would not be sent: {}.", words::skipped(skip))
            }
            Err(destination::Unsent::Broken(error)) => error,
        },
        None => built,
    };
    let is_query = options.message.rows.is_some() && options.message.encoding == Encoding::Query;
    MessagePart {
        has_rows: options.message.rows.is_some(),
        rows: form::row_items(rows, &results.iter().map(result).collect::<Vec<_>>(), faults),
        presets: presets::PRESETS.iter().map(|preset| (preset.word, preset.name)).collect(),
        names: mapping::names_of(&presets::sample()),
        samples: samples
            .iter()
            .map(|found| {
                let is_chosen = sample.is_some_and(|sample| sample.id == found.id);
                (found.id.clone(), found.label.clone(), is_chosen)
            })
            .collect(),
        request: format!(
            "{} {}",
            if is_query { "GET" } else { "POST" },
            settings::mask_url(&draft.url)
        ),
        body,
    }
}
