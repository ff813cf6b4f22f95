//! moto, which plays EC2 behind the gate.

use std::path::Path;
use std::time::Duration;

use crate::service::{Program, Service, free_ports};
use crate::{AwsClient, Error, tools, xml};

/// EC2's API version.
pub(crate) const VERSION: &str = "2016-11-15";

const READY: Duration = Duration::from_secs(180);

/// Starts moto; gives its URL.
pub(crate) async fn start(dir: &Path, log_dir: &Path) -> Result<(String, Service), Error> {
    let [port] = free_ports()?;
    let program = Program {
        name: "moto",
        path: tools::tool("cloud", "moto_server")?,
        args: ["-H", "127.0.0.1", "-p", &port.to_string()].iter().map(Into::into).collect(),
        env: vec![("PYTHONUNBUFFERED".into(), "1".into())],
        dir: dir.to_path_buf(),
    };
    let mut service = Service::spawn(&program, log_dir)?;
    let url = format!("http://127.0.0.1:{port}");
    service.wait_ready(READY, async || crate::cloud::answers(&format!("{url}/moto-api/data.json")).await).await?;
    Ok((url, service))
}

/// What a stack needs of an account's default network.
#[derive(Debug)]
pub(crate) struct Network {
    pub subnet_ids: Vec<String>,
    pub security_group_id: String,
    pub image_id: String,
}

/// Asks EC2 for its default subnets, their default security group, and an image to launch.
pub(crate) async fn network(ec2: &AwsClient) -> Result<Network, Error> {
    let subnets = ec2.query("ec2", VERSION, "DescribeSubnets", &filter("default-for-az", "true")).await?;
    let groups = ec2.query("ec2", VERSION, "DescribeSecurityGroups", &filter("group-name", "default")).await?;
    let images = ec2.query("ec2", VERSION, "DescribeImages", &filter("architecture", "x86_64")).await?;
    Ok(Network {
        subnet_ids: all("DescribeSubnets", &subnets, "subnetId")?,
        security_group_id: all("DescribeSecurityGroups", &groups, "groupId")?.swap_remove(0),
        image_id: all("DescribeImages", &images, "imageId")?.swap_remove(0),
    })
}

fn filter(name: &str, value: &str) -> Vec<(String, String)> {
    vec![("Filter.1.Name".into(), name.into()), ("Filter.1.Value.1".into(), value.into())]
}

/// The texts of all elements of that name; at least one.
fn all(action: &str, answer: &str, element: &str) -> Result<Vec<String>, Error> {
    let document = xml::parse(action, answer)?;
    let nodes = document.descendants().filter(|n| n.tag_name().name() == element);
    let texts: Vec<String> = nodes.filter_map(|n| n.text()).map(ToOwned::to_owned).collect();
    if texts.is_empty() {
        return Err(Error::Answer { action: action.into(), reason: format!("it has no {element}") });
    }
    Ok(texts)
}

/// Creates a launch template as another EC2 describes it, under the same name.
///
/// The instance profile is left out: moto looks it up in an IAM of its own, which has none.
pub(crate) async fn mirror_launch_template(from: &AwsClient, to: &AwsClient, id: &str) -> Result<(), Error> {
    let params = [("LaunchTemplateId".into(), id.into()), ("LaunchTemplateVersion.1".into(), "$Latest".into())];
    let answer = from.query("ec2", VERSION, "DescribeLaunchTemplateVersions", &params).await?;
    let document = xml::parse("DescribeLaunchTemplateVersions", &answer)?;
    let missing = |what: &str| Error::Answer {
        action: "DescribeLaunchTemplateVersions".into(),
        reason: format!("{id} has no {what}"),
    };
    let name = xml::text(document.root(), "launchTemplateName").ok_or_else(|| missing("name"))?;
    let data = xml::find(document.root(), "launchTemplateData").ok_or_else(|| missing("data"))?;

    let mut params = vec![("LaunchTemplateName".to_owned(), name.to_owned())];
    flatten("LaunchTemplateData", data, &mut params);
    to.query("ec2", VERSION, "CreateLaunchTemplate", &params).await.map(drop)
}

/// Turns an answer's XML back into a request's parameters: `tagSet/item/key` is `Tag.1.Key`.
fn flatten(prefix: &str, node: roxmltree::Node, params: &mut Vec<(String, String)>) {
    const ANSWER_ONLY: [&str; 2] = ["iamInstanceProfile", "state"];
    for child in node.children().filter(|n| n.is_element()) {
        let tag = child.tag_name().name();
        if ANSWER_ONLY.contains(&tag) {
            continue;
        }
        if let Some(list) = tag.strip_suffix("Set") {
            for (i, item) in child.children().filter(|n| n.is_element()).enumerate() {
                leaf_or_more(&format!("{prefix}.{}.{}", upper_first(list), i + 1), item, params);
            }
        } else {
            leaf_or_more(&format!("{prefix}.{}", upper_first(tag)), child, params);
        }
    }
}

fn leaf_or_more(name: &str, node: roxmltree::Node, params: &mut Vec<(String, String)>) {
    if node.children().any(|n| n.is_element()) {
        flatten(name, node, params);
    } else {
        params.push((name.to_owned(), node.text().unwrap_or_default().to_owned()));
    }
}

fn upper_first(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

impl crate::LocalCloud {
    /// Runs a machine as somebody else would: from an image, without any tag of ours. Gives its id.
    ///
    /// # Errors
    /// If EC2 refuses.
    pub async fn run_foreign_instance(&self) -> Result<String, Error> {
        let image_id = network(self.ec2()).await?.image_id;
        let params =
            [("ImageId", image_id.as_str()), ("InstanceType", "m5.large"), ("MinCount", "1"), ("MaxCount", "1")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let answer = self.ec2().query("ec2", VERSION, "RunInstances", &params).await?;
        Ok(all("RunInstances", &answer, "instanceId")?.swap_remove(0))
    }

    /// Whether EC2 reports a machine as pending or running.
    ///
    /// # Errors
    /// If EC2 refuses or does not know it.
    pub async fn is_running(&self, instance_id: &str) -> Result<bool, Error> {
        let params = [("InstanceId.1".to_owned(), instance_id.to_owned())];
        let answer = self.ec2().query("ec2", VERSION, "DescribeInstances", &params).await?;
        let document = xml::parse("DescribeInstances", &answer)?;
        let state = xml::find(document.root(), "instanceState").and_then(|node| xml::text(node, "name"));
        Ok(matches!(state, Some("pending" | "running")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_turns_back_into_the_parameters_of_a_request() {
        let xml = "<launchTemplateData><imageId>ami-1</imageId>\
                   <securityGroupIdSet><item>sg-1</item><item>sg-2</item></securityGroupIdSet>\
                   <iamInstanceProfile><arn>a</arn></iamInstanceProfile>\
                   <tagSpecificationSet><item><resourceType>instance</resourceType><tagSet><item><key>Name</key>\
                   <value>x</value></item></tagSet></item></tagSpecificationSet>\
                   <metadataOptions><state>applied</state><httpTokens>required</httpTokens></metadataOptions>\
                   </launchTemplateData>";
        let document = roxmltree::Document::parse(xml).unwrap();
        let mut params = Vec::new();
        flatten("D", document.root_element(), &mut params);

        let lines: Vec<String> = params.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            lines,
            [
                "D.ImageId=ami-1",
                "D.SecurityGroupId.1=sg-1",
                "D.SecurityGroupId.2=sg-2",
                "D.TagSpecification.1.ResourceType=instance",
                "D.TagSpecification.1.Tag.1.Key=Name",
                "D.TagSpecification.1.Tag.1.Value=x",
                "D.MetadataOptions.HttpTokens=required",
            ]
        );
    }
}
