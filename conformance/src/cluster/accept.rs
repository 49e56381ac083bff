//! The form of an answer that a client asks for: objects as they are, or their metadata only.

use serde_json::{Value, json};

/// The group and version of the forms that are not the object itself.
const FORMS: &str = "meta.k8s.io/v1";
const PARTIAL: &str = "PartialObjectMetadata";
const PARTIAL_LIST: &str = "PartialObjectMetadataList";

/// The object or list in the first form of `Accept` that there is of it. As it is where nothing else is asked for.
pub(super) fn form(accept: &str, document: Value) -> Value {
    let is_list = document["items"].is_array();
    for form in accept.split(',') {
        let mut parameters = form.split(';').map(str::trim);
        let media = parameters.next().unwrap_or_default();
        let value = |key: &str| {
            let mut all = parameters
                .clone()
                .filter_map(|parameter| parameter.split_once('='));
            all.find(|(name, _)| *name == key).map(|(_, value)| value)
        };
        if !matches!(media, "application/json" | "application/*" | "*/*") {
            continue;
        }
        let group = [value("g"), value("v")].map(Option::unwrap_or_default);
        match value("as") {
            None => return document,
            Some(PARTIAL) if !is_list && group.join("/") == FORMS => return partial(&document),
            Some(PARTIAL_LIST) if is_list && group.join("/") == FORMS => {
                let items: Vec<_> = document["items"].as_array().into_iter().flatten().collect();
                return json!({
                    "apiVersion": FORMS,
                    "kind": PARTIAL_LIST,
                    "metadata": document["metadata"],
                    "items": items.into_iter().map(partial).collect::<Vec<_>>(),
                });
            }
            Some(_) => {}
        }
    }
    document
}

fn partial(object: &Value) -> Value {
    json!({"apiVersion": FORMS, "kind": PARTIAL, "metadata": object["metadata"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    const LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

    #[test]
    fn the_first_form_that_there_is() {
        let object = json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {}});
        let page = json!({"kind": "PodList", "metadata": {"continue": "x"}, "items": [object]});
        let part = json!({"apiVersion": FORMS, "kind": PARTIAL, "metadata": {"name": "p"}});
        let parts = json!({"apiVersion": FORMS, "kind": PARTIAL_LIST, "metadata": {"continue": "x"}, "items": [part]});
        let whole = "application/json".to_owned();
        for (accept, of_object, of_page) in [
            (String::new(), &object, &page),
            (whole.clone(), &object, &page),
            (ONE.to_owned(), &part, &page),
            (LIST.to_owned(), &object, &parts),
            (format!("{ONE},{whole}"), &part, &page),
            (format!("{LIST}, {whole}"), &object, &parts),
            (format!("{whole},{ONE}"), &object, &page),
            (ONE.replace("v=v1", "v=v1beta1"), &object, &page),
            (ONE.replace("json;as", "yaml;as") + "," + ONE, &part, &page),
        ] {
            assert_eq!(&form(&accept, object.clone()), of_object, "{accept}");
            assert_eq!(&form(&accept, page.clone()), of_page, "{accept}");
        }
    }
}
