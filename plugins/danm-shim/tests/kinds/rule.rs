//! Rules of definitions, in CEL with the functions of Kubernetes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use kube_cel::KubeCelExt;
use kube_cel::cel::{Context, ExecutionError, Program, Value as Cel};
use serde_json::Value;

/// Whether `value` keeps a rule. A rule that compares with what was there before is kept where nothing was. One that can't be
/// evaluated is broken, as for an API server.
pub(crate) fn is_kept(rule: &Value, value: &Value, old: Option<&Value>) -> bool {
    let text = rule["rule"].as_str().unwrap();
    let answer = match (text.contains("oldSelf"), old) {
        (true, None) => return true,
        (true, Some(old)) => {
            let variables = [("self", self::value(value)), ("oldSelf", self::value(old))];
            evaluate(text, variables)
        }
        (false, _) => evaluate(text, [("self", self::value(value))]),
    };
    match answer {
        Ok(Cel::Bool(is_kept)) => is_kept,
        Ok(other) => panic!("{text} is {other:?}, and not true or false"),
        Err(ExecutionError::FunctionError { .. }) => false,
        Err(e) => panic!("{text}: {e}"),
    }
}

/// Evaluates an expression.
pub(crate) fn evaluate<const N: usize>(
    text: &str,
    variables: [(&str, Cel); N],
) -> Result<Cel, ExecutionError> {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Rc<Program>>> = RefCell::default();
    }
    let program = COMPILED.with_borrow_mut(|compiled| {
        let compile = || Rc::new(Program::compile(text).unwrap());
        Rc::clone(compiled.entry(text.to_owned()).or_insert_with(compile))
    });
    let mut context = Context::default().with_all();
    for (name, value) in variables {
        context.add_variable_from_value(name, value);
    }
    program.execute(&context)
}

/// JSON as CEL sees it. Names of members are as they are: the definitions have none that an API server writes in another way.
pub(crate) fn value(json: &Value) -> Cel {
    match json {
        Value::Null => Cel::Null,
        Value::Bool(is) => Cel::Bool(*is),
        Value::Number(number) => Cel::Int(number.as_i64().unwrap()),
        Value::String(text) => text.clone().into(),
        Value::Array(items) => items.iter().map(value).collect::<Vec<Cel>>().into(),
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(name, member)| (name.clone(), value(member)));
            members.collect::<HashMap<String, Cel>>().into()
        }
    }
}
