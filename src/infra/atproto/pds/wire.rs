//! What a PDS says on the wire: listings, failures, and atrium's calls carried by our client.

use std::{borrow::Cow, fmt::Debug};

use anyhow::anyhow;
use atrium_api::types::string as atrium;
use atrium_xrpc::{
    HttpClient, OutputDataOrBytes, XrpcClient, XrpcRequest,
    http::{Method, Request, Response},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use url::Url;

use super::SERVICE;
use crate::{
    error::{Error, Result},
    infra::{
        atproto::syntax::Did,
        http::{Answer, Outbound},
    },
};

/// A page of a listing; entries that are no objects are kept as empty ones.
pub(super) struct ListedPage<'a> {
    pub(super) cursor: Option<String>,
    pub(super) records: Vec<ListedRecord<'a>>,
}

/// An entry of a listing, or the answer for one record. Everything may be missing, so that one bad entry stays alone.
#[derive(Default, Deserialize)]
pub(super) struct ListedRecord<'a> {
    #[serde(borrow)]
    pub(super) uri: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) cid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) value: Option<&'a RawValue>,
}

impl<'a> ListedPage<'a> {
    pub(super) fn parse(body: &'a [u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Page<'a> {
            cursor: Option<String>,
            #[serde(borrow)]
            records: Vec<&'a RawValue>,
        }
        let page: Page<'a> = serde_json::from_slice(body)?;
        let entry = |text: &&'a RawValue| serde_json::from_str(text.get()).unwrap_or_default();
        Ok(Self {
            cursor: page.cursor.filter(|cursor| !cursor.is_empty()),
            records: page.records.iter().map(entry).collect(),
        })
    }
}

/// What a PDS said instead of an answer.
#[derive(Debug)]
pub(super) struct Failure {
    status: u16,
    name: String,
    message: String,
}

impl Failure {
    pub(super) fn parse(answer: &Answer) -> Self {
        #[derive(Default, Deserialize)]
        struct Body {
            error: Option<String>,
            message: Option<String>,
        }
        let body: Body = serde_json::from_slice(&answer.body).unwrap_or_default();
        Self { status: answer.status, name: body.error.unwrap_or_default(), message: body.message.unwrap_or_default() }
    }

    /// The reference PDS gives the name; its older versions and others give a message only.
    pub(super) fn is_record_gone(&self) -> bool {
        self.name == "RecordNotFound" || self.message.starts_with("Could not locate record")
    }

    fn is_repo_gone(&self) -> bool {
        matches!(self.name.as_str(), "RepoNotFound" | "RepoTakendown" | "RepoSuspended" | "RepoDeactivated")
            || self.message.starts_with("Could not find repo")
    }

    /// `NotFound` when the repo is not served (any more), else `Upstream`.
    pub(super) fn into_error(self, did: &Did) -> Error {
        if self.is_repo_gone() {
            return Error::NotFound { what: "repo", key: did.to_string() };
        }
        let Self { status, name, message } = self;
        let message: String = message.chars().take(200).collect();
        Error::upstream(SERVICE, anyhow!("status {status} {name}: {message}"))
    }
}

/// A DID in atrium's type, whose grammar ours already passed.
pub(super) fn did(did: &Did) -> Result<atrium::Did> {
    did.as_str().parse().map_err(|why: &str| Error::bug(anyhow!("{why}")))
}

/// atrium's calls, carried by the hardened client.
pub(super) struct Xrpc<'a> {
    pub(super) outbound: &'a Outbound,
    pub(super) base: &'a str,
}

impl HttpClient for Xrpc<'_> {
    async fn send_http(
        &self,
        request: Request<Vec<u8>>,
    ) -> std::result::Result<Response<Vec<u8>>, Box<dyn std::error::Error + Send + Sync + 'static>> {
        if request.method() != Method::GET {
            return Err("only queries are sent without login".into());
        }
        let answer = self.outbound.get(SERVICE, &Url::parse(&request.uri().to_string())?).await?;
        let mut response = Response::builder().status(answer.status);
        if let Some(headers) = response.headers_mut() {
            *headers = answer.headers;
        }
        Ok(response.body(answer.body.into())?)
    }
}

impl XrpcClient for Xrpc<'_> {
    fn base_uri(&self) -> String {
        self.base.to_owned()
    }
}

impl Xrpc<'_> {
    /// Sends a query about one repo. Errors as those of [`Failure::into_error`], and of the client.
    pub(super) async fn query<P, O, E>(&self, nsid: &str, parameters: P, did: &Did) -> Result<O>
    where
        P: Serialize + Send + Sync,
        O: DeserializeOwned + Send + Sync,
        E: DeserializeOwned + Serialize + Send + Sync + Debug,
    {
        let request = XrpcRequest::<P, ()> {
            method: Method::GET,
            nsid: nsid.to_owned(),
            parameters: Some(parameters),
            input: None,
            encoding: None,
        };
        match self.send_xrpc::<P, (), O, E>(&request).await {
            Ok(OutputDataOrBytes::Data(data)) => Ok(data),
            Ok(OutputDataOrBytes::Bytes(_)) => Err(Error::upstream(SERVICE, anyhow!("{nsid} did not give JSON"))),
            Err(error) => Err(failure(error, did)),
        }
    }
}

fn failure<E: Serialize + Debug>(error: atrium_xrpc::Error<E>, did: &Did) -> Error {
    match error {
        atrium_xrpc::Error::XrpcResponse(response) => {
            // atrium's enums are the error's name and message again, which serialising them gives back.
            let body = serde_json::to_value(response.error).unwrap_or_default();
            let text = |key: &str| body.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
            Failure { status: response.status.as_u16(), name: text("error"), message: text("message") }.into_error(did)
        }
        atrium_xrpc::Error::HttpClient(cause) => match cause.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => Error::upstream(SERVICE, anyhow::Error::from_boxed(other)),
        },
        other => Error::upstream(SERVICE, anyhow!("{other:?}")),
    }
}
