//! Deploying the SAM template into the local cloud, and calling its functions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use crate::client::Request;
use crate::{Error, LocalCloud, Zips, ec2, xml};

/// CloudFormation's API version.
const VERSION: &str = "2010-05-15";

/// The longest a stack may take.
const CREATED: Duration = Duration::from_secs(300);

/// Log lines of a function that an error shows.
const LOG_LINES: usize = 40;

/// What to deploy.
#[derive(Clone, Debug)]
pub struct DeployOptions {
    /// The stack's name.
    pub stack_name: String,
    /// The template, `infra/template.yaml`.
    pub template: PathBuf,
    /// Its parameters. `Architecture`, `AmiId`, `SecurityGroupId` and `SubnetIds` are filled in if missing.
    pub parameters: BTreeMap<String, String>,
    /// The functions.
    pub zips: Zips,
}

/// The stack's outputs, by name.
pub type Outputs = BTreeMap<String, String>;

impl LocalCloud {
    /// Deploys the template and gives its outputs.
    ///
    /// Zips and template go into a bucket, as `sam deploy` does (a request takes 51 200 bytes of a template at most); the
    /// launch templates are copied to where EC2 is.
    ///
    /// # Errors
    /// Names the resources that failed and why.
    pub async fn deploy(&self, options: &DeployOptions) -> Result<Outputs, Error> {
        let bucket = format!("{}-code", options.stack_name);
        let template_url = self.package_template(options, &bucket).await?;
        let parameters = self.parameters(&options.parameters).await?;

        let mut params = vec![
            ("StackName".to_owned(), options.stack_name.clone()),
            ("TemplateURL".to_owned(), template_url),
            ("Capabilities.member.1".to_owned(), "CAPABILITY_AUTO_EXPAND".to_owned()),
            ("Capabilities.member.2".to_owned(), "CAPABILITY_NAMED_IAM".to_owned()),
        ];
        for (i, (name, value)) in parameters.into_iter().enumerate() {
            params.push((format!("Parameters.member.{}.ParameterKey", i + 1), name));
            params.push((format!("Parameters.member.{}.ParameterValue", i + 1), value));
        }
        self.aws().query("cloudformation", VERSION, "CreateStack", &params).await?;
        let outputs = self.wait_created(&options.stack_name).await?;
        self.mirror_launch_templates(&options.stack_name).await?;
        Ok(outputs)
    }

    /// Uploads the zips and the template with their places in it, and says where it is.
    async fn package_template(&self, options: &DeployOptions, bucket: &str) -> Result<String, Error> {
        let path = &options.template;
        let mut template = std::fs::read_to_string(path).map_err(Error::io(format!("read {}", path.display())))?;
        self.put_object(bucket, "", Vec::new()).await?;
        for (function, zip) in [("evaluator", &options.zips.evaluator), ("executor", &options.zips.executor)] {
            let body =
                std::fs::read(zip).map_err(Error::io(format!("read {}; build the functions first", zip.display())))?;
            let key = format!("{function}.zip");
            self.put_object(bucket, &key, body).await?;
            template = with_code(&template, function, &format!("s3://{bucket}/{key}")).ok_or_else(|| {
                Error::Template { path: path.clone(), reason: format!("it has no CodeUri of {function}") }
            })?;
        }
        self.put_object(bucket, "template.yaml", template.into_bytes()).await?;
        Ok(format!("{}/{bucket}/template.yaml", self.endpoint()))
    }

    /// PUT into S3; without a key it creates the bucket.
    async fn put_object(&self, bucket: &str, key: &str, body: Vec<u8>) -> Result<(), Error> {
        let path = if key.is_empty() { format!("/{bucket}") } else { format!("/{bucket}/{key}") };
        let request = Request { service: "s3", method: Method::PUT, path, headers: Vec::new(), body };
        self.aws().expect_success("PUT", request).await.map(drop)
    }

    async fn parameters(&self, given: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Error> {
        let network = ec2::network(self.ec2()).await?;
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
        let mut parameters = BTreeMap::from([
            ("Architecture".to_owned(), architecture.to_owned()),
            ("AmiId".to_owned(), network.image_id),
            ("SecurityGroupId".to_owned(), network.security_group_id),
            ("SubnetIds".to_owned(), network.subnet_ids.join(",")),
        ]);
        parameters.extend(given.clone());
        Ok(parameters)
    }

    async fn wait_created(&self, stack: &str) -> Result<Outputs, Error> {
        let deadline = Instant::now() + CREATED;
        let params = [("StackName".to_owned(), stack.to_owned())];
        loop {
            let answer = self.aws().query("cloudformation", VERSION, "DescribeStacks", &params).await?;
            let document = xml::parse("DescribeStacks", &answer)?;
            let status = xml::text(document.root(), "StackStatus").unwrap_or_default();
            match status {
                "CREATE_COMPLETE" => return Ok(outputs(document.root())),
                "CREATE_IN_PROGRESS" if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                _ => {
                    let failures = self.failures(stack).await?;
                    return Err(Error::Stack { stack: stack.into(), status: status.into(), failures });
                }
            }
        }
    }

    /// One line for each resource that failed.
    async fn failures(&self, stack: &str) -> Result<String, Error> {
        let params = [("StackName".to_owned(), stack.to_owned())];
        let answer = self.aws().query("cloudformation", VERSION, "DescribeStackEvents", &params).await?;
        let document = xml::parse("DescribeStackEvents", &answer)?;
        let events = xml::entries(document.root(), "StackEvents").into_iter();
        let failed = events.filter(|e| xml::text(*e, "ResourceStatus").is_some_and(|s| s.ends_with("_FAILED")));
        let lines = failed.map(|event| {
            let part = |name| xml::text(event, name).unwrap_or_default();
            format!("  {} ({}): {}", part("LogicalResourceId"), part("ResourceType"), part("ResourceStatusReason"))
        });
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    async fn mirror_launch_templates(&self, stack: &str) -> Result<(), Error> {
        let params = [("StackName".to_owned(), stack.to_owned())];
        let answer = self.aws().query("cloudformation", VERSION, "DescribeStackResources", &params).await?;
        let document = xml::parse("DescribeStackResources", &answer)?;
        for resource in xml::entries(document.root(), "StackResources") {
            let is_template = xml::text(resource, "ResourceType") == Some("AWS::EC2::LaunchTemplate");
            if let (true, Some(id)) = (is_template, xml::text(resource, "PhysicalResourceId")) {
                ec2::mirror_launch_template(self.aws(), self.ec2(), id).await?;
            }
        }
        Ok(())
    }

    /// Invokes a function and waits for its answer.
    ///
    /// # Errors
    /// If the function fails: with its error and the end of its log.
    pub async fn invoke(&self, function: &str, payload: &Value) -> Result<Value, Error> {
        let request = Request {
            service: "lambda",
            method: Method::POST,
            path: format!("/2015-03-31/functions/{function}/invocations"),
            headers: vec![("x-amz-invocation-type", "RequestResponse".into())],
            body: payload.to_string().into_bytes(),
        };
        let reply = self.aws().expect_success("Invoke", request).await?;
        if reply.function_error.is_some() {
            let logs = self.function_logs(function).await.unwrap_or_default();
            let logs = logs[logs.len().saturating_sub(LOG_LINES)..].join("\n");
            return Err(Error::Function { function: function.into(), message: reply.text(), logs });
        }
        serde_json::from_slice(&reply.body)
            .map_err(|e| Error::Answer { action: format!("lambda Invoke {function}"), reason: e.to_string() })
    }

    /// What a function has logged, line by line, oldest first.
    ///
    /// # Errors
    /// If its log group cannot be read.
    pub async fn function_logs(&self, function: &str) -> Result<Vec<String>, Error> {
        let path = format!("/2015-03-31/functions/{function}/configuration");
        let request = Request { service: "lambda", method: Method::GET, path, headers: Vec::new(), body: Vec::new() };
        let reply = self.aws().expect_success("GetFunctionConfiguration", request).await?;
        let configuration: Value = serde_json::from_slice(&reply.body)
            .map_err(|e| Error::Answer { action: "GetFunctionConfiguration".into(), reason: e.to_string() })?;
        let group = configuration["LoggingConfig"]["LogGroup"].as_str().map(ToOwned::to_owned);
        let group = group.unwrap_or_else(|| format!("/aws/lambda/{function}"));

        let body = serde_json::json!({"logGroupName": group});
        let answer = self.aws().json("logs", "Logs_20140328.FilterLogEvents", &body).await?;
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        let messages = events.iter().filter_map(|event| event["message"].as_str());
        Ok(messages.flat_map(str::lines).map(ToOwned::to_owned).collect())
    }
}

fn outputs<'a>(root: roxmltree::Node<'a, 'a>) -> Outputs {
    let entries = xml::entries(root, "Outputs").into_iter();
    let pair = |o| Some((xml::text(o, "OutputKey")?.to_owned(), xml::text(o, "OutputValue")?.to_owned()));
    entries.filter_map(pair).collect()
}

/// The template with the `CodeUri` of one function replaced; none if it has no such line.
fn with_code(template: &str, function: &str, place: &str) -> Option<String> {
    let old = format!("CodeUri: ../target/lambda/{function}/bootstrap.zip");
    template.contains(&old).then(|| template.replace(&old, &format!("CodeUri: {place}")))
}

/// The project's own template.
pub fn project_template() -> PathBuf {
    crate::tools::workspace().join(Path::new("infra/template.yaml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_both_functions_of_our_template_can_be_replaced() {
        let template = std::fs::read_to_string(project_template()).unwrap();
        for function in ["evaluator", "executor"] {
            let packaged = with_code(&template, function, "s3://b/k.zip").expect("the template names its code");
            assert!(packaged.contains("CodeUri: s3://b/k.zip"));
        }
        assert_eq!(with_code(&template, "nobody", "s3://b/k.zip"), None);
    }
}
