"""Prints the template as CloudFormation sees it after the SAM transform, as JSON.

The source alone hides what the transform makes of it, dangling references among them.
"""

import json
import os
import sys

os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")

from samtranslator.parser.parser import Parser  # noqa: E402
from samtranslator.translator.translator import Translator  # noqa: E402
from samtranslator.yaml_helper import yaml_parse  # noqa: E402

with open(sys.argv[1], encoding="utf-8") as source:
    template = yaml_parse(source.read())
# As `sam package` would: the code lies in a bucket.
for resource in template["Resources"].values():
    if resource["Type"] == "AWS::Serverless::Function":
        resource["Properties"]["CodeUri"] = "s3://bucket/code.zip"
# No managed policies: the roles are written out, so there is no name to look up.
translator = Translator(managed_policy_map={}, sam_parser=Parser())
json.dump(translator.translate(sam_template=template, parameter_values={}), sys.stdout, indent=1)
