//! What an OpenAPI 3.1 document is made of: each kind of object with its fields.
//!
//! In: nothing. Out: the one table by which documents are checked, walked and rewritten, so that no
//! step can take for a reference what is an example, or for an example what is a reference. What is
//! in no table and does not begin with `x-` means nothing to anybody, and is dropped; schemas keep
//! all, since JSON Schema lets everybody add words.

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Document,
    Info,
    Tag,
    Components,
    PathItem,
    Operation,
    Parameter,
    RequestBody,
    MediaType,
    Encoding,
    Responses,
    Response,
    Header,
    Example,
    Link,
    Callback,
    Schema,
    Discriminator,
    ExternalDocs,
}

/// One field of an object.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) holds: Holds,
    pub(crate) required: bool,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Anything, and nothing in it is looked at.
    Any,
    Text,
    Flag,
    Number,
    /// A whole number from 0.
    Count,
    /// A list of anything.
    Values,
    /// A list of strings.
    Texts,
    /// An object whose members are strings.
    TextMap,
    /// `type` of a schema: a string or a list of them.
    Types,
    /// An object of this kind.
    One(Kind),
    /// A list of them.
    List(Kind),
    /// An object with any names whose members are of this kind.
    Map(Kind),
    /// It is read elsewhere, and leaves no trace in the whole.
    Ours,
}

use Holds::{Any, Count, Flag, List, Map, Number, One, Ours, Text, TextMap, Texts, Types, Values};

const fn may(name: &'static str, holds: Holds) -> Field {
    Field {
        name,
        holds,
        required: false,
    }
}

const fn must(name: &'static str, holds: Holds) -> Field {
    Field {
        name,
        holds,
        required: true,
    }
}

const DOCUMENT: &[Field] = &[
    must("openapi", Text),
    must("info", One(Kind::Info)),
    may("paths", Map(Kind::PathItem)),
    may("components", One(Kind::Components)),
    may("tags", List(Kind::Tag)),
    may("externalDocs", One(Kind::ExternalDocs)),
    may("servers", Ours),
    may("security", Ours),
    may("webhooks", Map(Kind::PathItem)),
    may("jsonSchemaDialect", Text),
];

const INFO: &[Field] = &[
    must("title", Text),
    must("version", Text),
    may("summary", Text),
    may("description", Text),
    may("termsOfService", Text),
    may("contact", Any),
    may("license", Any),
];

const TAG: &[Field] = &[
    must("name", Text),
    may("description", Text),
    may("externalDocs", One(Kind::ExternalDocs)),
];

const COMPONENTS: &[Field] = &[
    may("schemas", Map(Kind::Schema)),
    may("responses", Map(Kind::Response)),
    may("parameters", Map(Kind::Parameter)),
    may("examples", Map(Kind::Example)),
    may("requestBodies", Map(Kind::RequestBody)),
    may("headers", Map(Kind::Header)),
    may("links", Map(Kind::Link)),
    may("callbacks", Map(Kind::Callback)),
    may("pathItems", Map(Kind::PathItem)),
    may("securitySchemes", Ours),
];

/// The methods that a path can have. Of `trace` no request is ever served.
pub(crate) const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

const PATH_ITEM: &[Field] = &[
    may("summary", Text),
    may("description", Text),
    may("servers", Ours),
    may("parameters", List(Kind::Parameter)),
    may("get", One(Kind::Operation)),
    may("put", One(Kind::Operation)),
    may("post", One(Kind::Operation)),
    may("delete", One(Kind::Operation)),
    may("options", One(Kind::Operation)),
    may("head", One(Kind::Operation)),
    may("patch", One(Kind::Operation)),
];

const OPERATION: &[Field] = &[
    may("tags", Texts),
    may("summary", Text),
    may("description", Text),
    may("externalDocs", One(Kind::ExternalDocs)),
    may("operationId", Text),
    may("parameters", List(Kind::Parameter)),
    may("requestBody", One(Kind::RequestBody)),
    may("responses", One(Kind::Responses)),
    may("callbacks", Map(Kind::Callback)),
    may("deprecated", Flag),
    may("security", Ours),
    may("servers", Ours),
];

const PARAMETER: &[Field] = &[
    must("name", Text),
    must("in", Text),
    may("description", Text),
    may("required", Flag),
    may("deprecated", Flag),
    may("allowEmptyValue", Flag),
    may("allowReserved", Flag),
    may("style", Text),
    may("explode", Flag),
    may("schema", One(Kind::Schema)),
    may("content", Map(Kind::MediaType)),
    may("example", Any),
    may("examples", Map(Kind::Example)),
];

const HEADER: &[Field] = &[
    may("description", Text),
    may("required", Flag),
    may("deprecated", Flag),
    may("style", Text),
    may("explode", Flag),
    may("schema", One(Kind::Schema)),
    may("content", Map(Kind::MediaType)),
    may("example", Any),
    may("examples", Map(Kind::Example)),
];

const REQUEST_BODY: &[Field] = &[
    must("content", Map(Kind::MediaType)),
    may("description", Text),
    may("required", Flag),
];

const MEDIA_TYPE: &[Field] = &[
    may("schema", One(Kind::Schema)),
    may("example", Any),
    may("examples", Map(Kind::Example)),
    may("encoding", Map(Kind::Encoding)),
];

const ENCODING: &[Field] = &[
    may("contentType", Text),
    may("headers", Map(Kind::Header)),
    may("style", Text),
    may("explode", Flag),
    may("allowReserved", Flag),
];

const RESPONSE: &[Field] = &[
    must("description", Text),
    may("headers", Map(Kind::Header)),
    may("content", Map(Kind::MediaType)),
    may("links", Map(Kind::Link)),
];

const EXAMPLE: &[Field] = &[
    may("summary", Text),
    may("description", Text),
    may("value", Any),
    may("externalValue", Text),
];

const LINK: &[Field] = &[
    may("operationRef", Text),
    may("operationId", Text),
    may("parameters", TextMap),
    may("requestBody", Any),
    may("description", Text),
];

const DISCRIMINATOR: &[Field] = &[must("propertyName", Text), may("mapping", TextMap)];

const EXTERNAL_DOCS: &[Field] = &[must("url", Text), may("description", Text)];

const SCHEMA: &[Field] = &[
    may("$ref", Text),
    may("$comment", Text),
    may("$defs", Map(Kind::Schema)),
    may("definitions", Map(Kind::Schema)),
    may("type", Types),
    may("enum", Values),
    may("const", Any),
    may("default", Any),
    may("example", Any),
    may("examples", Values),
    may("title", Text),
    may("description", Text),
    may("format", Text),
    may("pattern", Text),
    may("required", Texts),
    may("properties", Map(Kind::Schema)),
    may("patternProperties", Map(Kind::Schema)),
    may("dependentSchemas", Map(Kind::Schema)),
    may("allOf", List(Kind::Schema)),
    may("anyOf", List(Kind::Schema)),
    may("oneOf", List(Kind::Schema)),
    may("prefixItems", List(Kind::Schema)),
    may("items", One(Kind::Schema)),
    may("contains", One(Kind::Schema)),
    may("not", One(Kind::Schema)),
    may("if", One(Kind::Schema)),
    may("then", One(Kind::Schema)),
    may("else", One(Kind::Schema)),
    may("additionalProperties", One(Kind::Schema)),
    may("propertyNames", One(Kind::Schema)),
    may("unevaluatedItems", One(Kind::Schema)),
    may("unevaluatedProperties", One(Kind::Schema)),
    may("contentSchema", One(Kind::Schema)),
    may("contentEncoding", Text),
    may("contentMediaType", Text),
    may("multipleOf", Number),
    may("maximum", Number),
    may("minimum", Number),
    may("exclusiveMaximum", Number),
    may("exclusiveMinimum", Number),
    may("maxLength", Count),
    may("minLength", Count),
    may("maxItems", Count),
    may("minItems", Count),
    may("uniqueItems", Flag),
    may("maxContains", Count),
    may("minContains", Count),
    may("maxProperties", Count),
    may("minProperties", Count),
    may("readOnly", Flag),
    may("writeOnly", Flag),
    may("deprecated", Flag),
    may("discriminator", One(Kind::Discriminator)),
    may("externalDocs", One(Kind::ExternalDocs)),
    may("xml", Any),
];

/// The types of JSON Schema.
pub(crate) const TYPES: [&str; 7] = [
    "null", "boolean", "object", "array", "number", "string", "integer",
];

/// Words of a schema that change what references below it mean. Nobody who bundles documents writes
/// them.
pub(crate) const REBASING: [&str; 7] = [
    "$id",
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$recursiveRef",
    "$recursiveAnchor",
    "$schema",
];

impl Kind {
    /// Its fields; those of `Responses` and `Callback` have names of their own.
    pub(crate) fn fields(self) -> &'static [Field] {
        match self {
            Self::Document => DOCUMENT,
            Self::Info => INFO,
            Self::Tag => TAG,
            Self::Components => COMPONENTS,
            Self::PathItem => PATH_ITEM,
            Self::Operation => OPERATION,
            Self::Parameter => PARAMETER,
            Self::RequestBody => REQUEST_BODY,
            Self::MediaType => MEDIA_TYPE,
            Self::Encoding => ENCODING,
            Self::Response => RESPONSE,
            Self::Header => HEADER,
            Self::Example => EXAMPLE,
            Self::Link => LINK,
            Self::Schema => SCHEMA,
            Self::Discriminator => DISCRIMINATOR,
            Self::ExternalDocs => EXTERNAL_DOCS,
            Self::Responses | Self::Callback => &[],
        }
    }

    /// Its field of this name.
    pub(crate) fn field(self, name: &str) -> Option<&'static Field> {
        self.fields().iter().find(|field| field.name == name)
    }

    /// The names that have to be there.
    pub(crate) fn required(self) -> impl Iterator<Item = &'static str> {
        let fields = self.fields().iter().filter(|field| field.required);
        fields.map(|field| field.name)
    }

    /// What the member `name` holds; `None` if that name means nothing here.
    pub(crate) fn holds(self, name: &str) -> Option<Holds> {
        match self {
            Self::Responses | Self::Callback if name.starts_with("x-") => None,
            Self::Responses => Some(One(Kind::Response)),
            Self::Callback => Some(One(Kind::PathItem)),
            _ => self.field(name).map(|field| field.holds),
        }
    }

    /// Its section among the components; `None` for what can't be referred to.
    pub(crate) fn section(self) -> Option<&'static str> {
        let section = match self {
            Self::Schema => "schemas",
            Self::Response => "responses",
            Self::Parameter => "parameters",
            Self::Example => "examples",
            Self::RequestBody => "requestBodies",
            Self::Header => "headers",
            Self::Link => "links",
            Self::Callback => "callbacks",
            Self::PathItem => "pathItems",
            _ => return None,
        };
        Some(section)
    }

    /// As people call it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Document => "the document",
            Self::Info => "an info object",
            Self::Tag => "a tag",
            Self::Components => "the components",
            Self::PathItem => "a path item",
            Self::Operation => "an operation",
            Self::Parameter => "a parameter",
            Self::RequestBody => "a request body",
            Self::MediaType => "a media type",
            Self::Encoding => "an encoding",
            Self::Responses => "a list of responses",
            Self::Response => "a response",
            Self::Header => "a header",
            Self::Example => "an example",
            Self::Link => "a link",
            Self::Callback => "a callback",
            Self::Schema => "a schema",
            Self::Discriminator => "a discriminator",
            Self::ExternalDocs => "a link to documentation",
        }
    }
}
