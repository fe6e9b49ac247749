//! Limits what a mapping expression can cost.
//! Takes an expression or its value; returns an error for a product of anything but numbers, and
//! for a value too long to write.
//! The template engine limits the number of steps, but `[1] * 100000000` is one step, and its list
//! costs time only when it is written or compared. Without repeated lists, every value is limited
//! by the expression and by the facts of the conversion. Pure.

use std::ops::Range;

use minijinja::machinery::ast::{BinOpKind, CallArg, Expr};
use minijinja::machinery::{CodeGenerator, eval, make_string_output, parse_expr};
use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error};

/// Maximum number of products in an expression: each of their factors is evaluated once more.
const MAX_PRODUCTS: usize = 8;

/// An expression that is refused: which part, and why.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) part: Range<usize>,
    pub(super) message: String,
}

/// Refuses products of anything but numbers: a text or a list repeated a hundred million times is
/// small until it is written. Checks branches that are not taken too, so that the expression is
/// refused when it is saved.
pub(super) fn check_products(
    environment: &Environment<'_>,
    expression: &str,
    names: &Value,
) -> Result<(), Refused> {
    if !expression.contains('*') {
        return Ok(());
    }
    // What can't be parsed can't run either: compiling it reports the error.
    let Ok(parsed) = parse_expr(expression) else { return Ok(()) };
    let mut factors = Vec::new();
    collect_factors(&parsed, &mut factors);
    if factors.len() > 2 * MAX_PRODUCTS {
        let message = format!("an expression has at most {MAX_PRODUCTS} products");
        return Err(Refused { part: 0..expression.len(), message });
    }
    for factor in factors {
        let kind = value_of(environment, expression, factor, names).map(|value| value.kind());
        // Without a number the product itself fails with the engine's error, and so does a wrong
        // factor.
        if !matches!(kind, Ok(ValueKind::Number | ValueKind::Undefined | ValueKind::None) | Err(_))
        {
            let message = "only numbers can be multiplied; use | int to convert text".to_owned();
            let span = factor.span();
            let part = span.start_offset as usize..span.end_offset as usize;
            return Err(Refused { part, message });
        }
    }
    Ok(())
}

/// Evaluates a part of an expression, as `Environment::compile_expression` does for a whole one.
/// The part's text can't be used, because its span does not always include its parentheses.
fn value_of<'text>(
    environment: &Environment<'_>,
    expression: &'text str,
    part: &Expr<'text>,
    names: &Value,
) -> Result<Value, Error> {
    let mut generator = CodeGenerator::new("<factor>", expression);
    generator.compile_expr(part);
    let (instructions, blocks) = generator.finish();
    let mut printed = String::new();
    let mut output = make_string_output(&mut printed);
    let names = names.clone();
    let value = eval(environment, &instructions, names, &blocks, &mut output, AutoEscape::None)?.0;
    Ok(value.unwrap_or_default())
}

/// Collects all factors, innermost first, so that products inside a factor are checked before it is
/// evaluated.
fn collect_factors<'a, 'text>(expression: &'a Expr<'text>, found: &mut Vec<&'a Expr<'text>>) {
    for part in parts(expression) {
        collect_factors(part, found);
    }
    if let Expr::BinOp(operation) = expression
        && matches!(operation.op, BinOpKind::Mul)
    {
        found.extend([&operation.left, &operation.right]);
    }
}

/// The direct parts of an expression.
fn parts<'a, 'text>(expression: &'a Expr<'text>) -> Vec<&'a Expr<'text>> {
    let of_arguments = |arguments: &'a [CallArg<'text>]| {
        arguments.iter().map(|argument| match argument {
            CallArg::Pos(part)
            | CallArg::Kwarg(_, part)
            | CallArg::PosSplat(part)
            | CallArg::KwargSplat(part) => part,
        })
    };
    match expression {
        Expr::Var(_) | Expr::Const(_) => Vec::new(),
        Expr::Slice(slice) => {
            let bounds = [&slice.start, &slice.stop, &slice.step];
            [&slice.expr].into_iter().chain(bounds.into_iter().flatten()).collect()
        }
        Expr::UnaryOp(operation) => vec![&operation.expr],
        Expr::BinOp(operation) => vec![&operation.left, &operation.right],
        Expr::Compare(compare) => {
            let others = compare.ops.iter().map(|other| &other.expr);
            [&compare.expr].into_iter().chain(others).collect()
        }
        Expr::IfExpr(choice) => {
            let both = [&choice.test_expr, &choice.true_expr];
            both.into_iter().chain(&choice.false_expr).collect()
        }
        Expr::Filter(filter) => filter.expr.iter().chain(of_arguments(&filter.args)).collect(),
        Expr::Test(test) => [&test.expr].into_iter().chain(of_arguments(&test.args)).collect(),
        Expr::GetAttr(attribute) => vec![&attribute.expr],
        Expr::GetItem(item) => vec![&item.expr, &item.subscript_expr],
        Expr::Call(call) => [&call.expr].into_iter().chain(of_arguments(&call.args)).collect(),
        Expr::List(list) => list.items.iter().collect(),
        Expr::Tuple(tuple) => tuple.items.iter().collect(),
        Expr::Map(map) => map.keys.iter().chain(&map.values).collect(),
    }
}

/// A value is longer than its limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Converts a value to text; a list or an object becomes JSON.
pub(super) fn text(value: &Value, limit: usize) -> Result<String, TooLong> {
    match (value.as_str(), value.kind()) {
        (Some(text), _) if text.len() <= limit => Ok(text.to_owned()),
        (Some(_), _) => Err(TooLong),
        (None, ValueKind::Seq | ValueKind::Iterable | ValueKind::Map | ValueKind::Plain) => {
            json(value, limit)
        }
        (None, _) => Ok(value.to_string()),
    }
}

/// Converts a value to JSON. Stops at the limit whatever the value's size: every element writes at
/// least one byte.
pub(super) fn json(value: &Value, limit: usize) -> Result<String, TooLong> {
    let mut out = Bounded { text: String::new(), limit };
    write_json(value, &mut out)?;
    Ok(out.text)
}

struct Bounded {
    text: String,
    limit: usize,
}

impl Bounded {
    fn push(&mut self, text: &str) -> Result<(), TooLong> {
        if self.text.len() + text.len() > self.limit {
            return Err(TooLong);
        }
        self.text.push_str(text);
        Ok(())
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "scalars, and kinds that no fact has")]
fn write_json(value: &Value, out: &mut Bounded) -> Result<(), TooLong> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            out.push("[")?;
            for (at, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push(if at == 0 { "" } else { "," })?;
                write_json(&item, out)?;
            }
            out.push("]")
        }
        ValueKind::Map => {
            out.push("{")?;
            for (at, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push(if at == 0 { "" } else { "," })?;
                let name = text(&key, out.limit)?;
                out.push(&serde_json::Value::from(name).to_string())?;
                out.push(":")?;
                write_json(&value.get_item(&key).unwrap_or_default(), out)?;
            }
            out.push("}")
        }
        ValueKind::String if value.as_str().is_some_and(|text| text.len() > out.limit) => {
            Err(TooLong)
        }
        // A value without a form in JSON becomes null.
        _ => out.push(&serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_stops_at_the_limit_for_any_value() {
        let endless = Value::make_iterable(|| std::iter::repeat_n(Value::from(1), usize::MAX));
        assert_eq!(json(&endless, 100), Err(TooLong));
        assert_eq!(text(&endless, 100), Err(TooLong));
        assert_eq!(json(&Value::from(vec![endless.clone(), endless]), 100), Err(TooLong));
        assert_eq!(text(&Value::from("ü".repeat(60)), 100), Err(TooLong));
    }

    #[test]
    fn values_within_the_limit_are_written_as_json() {
        let value = serde_json::json!({"a": [1, "x\"y", null, true, 1.5], "b": {}, "c": []});
        let whole = Value::from(minijinja::value::Serde(&value));
        let written: serde_json::Value = serde_json::from_str(&json(&whole, 100).unwrap()).unwrap();
        assert_eq!(written, value);
        assert_eq!(text(&Value::from("plain"), 5), Ok("plain".to_owned()));
    }
}
