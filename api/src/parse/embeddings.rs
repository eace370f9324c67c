//! The body of `POST /v1/embeddings`: what a gateway must know of it.

use bytes::Bytes;
use tokenhub_domain::OutputWish;

use super::{
    Ask, BYTES_PER_TOKEN, Demands, PolicyWish,
    protocol::{model, text},
    raw::{Kind, RawObject},
};
use crate::error::Problem;

/// Texts to make vectors of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EmbeddingsRequest {
    /// The model asked for. Vectors of two models cannot be compared, so there must be one.
    pub(crate) model: String,
    /// The body and what is estimated of it.
    pub(crate) ask: Ask,
}

/// Reads the body.
pub(crate) fn parse(body: Bytes) -> Result<EmbeddingsRequest, Problem> {
    let original = text(body)?;
    let fields = RawObject::read(&original)?;
    let missing = |param: &str| Problem::MissingField { param: param.to_owned() };
    let model = model(&fields)?.ok_or_else(|| missing("model"))?;
    let input = fields.get("input").ok_or_else(|| missing("input"))?;
    let scan = input.scan();
    let is_empty = match input.kind() {
        Kind::String => scan.text_bytes == 0,
        Kind::Array => scan.elements == 0,
        Kind::Object | Kind::Scalar => return Err(Problem::invalid("input", "must be a string or an array")),
    };
    if is_empty {
        return Err(Problem::invalid("input", "must not be empty"));
    }
    // Of several models' vectors none can be compared, so a list of stand-ins is not taken.
    let demands = Demands::default();
    let estimated_input_tokens = scan.text_bytes.div_ceil(BYTES_PER_TOKEN);
    let ask = Ask {
        original,
        estimated_input_tokens,
        estimated_output_tokens: 0,
        policy: PolicyWish::default(),
        demands,
        output: OutputWish::default(),
    };
    Ok(EmbeddingsRequest { model, ask })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Shape;

    fn refused(body: &'static str) -> String {
        let problem = parse(Bytes::from_static(body.as_bytes())).unwrap_err();
        problem.report(Shape::OpenAi).param.unwrap_or_default()
    }

    #[test]
    fn texts_and_tokens_are_taken_and_the_body_stays_as_it_came() {
        for body in [r#"{"model":"m", "input":"abcdefgh"}"#, r#"{"model":"m","input":["abcd","efgh"]}"#] {
            let request = parse(Bytes::from_static(body.as_bytes())).unwrap();
            assert_eq!((request.model.as_str(), request.ask.original.as_str()), ("m", body));
            assert_eq!(request.ask.estimated_input_tokens, 2);
        }
        assert!(parse(Bytes::from_static(br#"{"model":"m","input":[1,2,3]}"#)).is_ok());
    }

    #[test]
    fn a_wrong_field_is_named() {
        assert_eq!(refused(r#"{"input":"a"}"#), "model");
        assert_eq!(refused(r#"{"model":"*","input":"a"}"#), "model");
        assert_eq!(refused(r#"{"model":"m"}"#), "input");
        assert_eq!(refused(r#"{"model":"m","input":[]}"#), "input");
        assert_eq!(refused(r#"{"model":"m","input":""}"#), "input");
        assert_eq!(refused(r#"{"model":"m","input":{}}"#), "input");
    }
}
