"""A policy for an engine that runs without PyTorch: exported once, checked, then run by onnxruntime or OpenVINO.

| file | content | needs torch |
|---|---|---|
| `graphs.py` | the parts of a policy that become graphs, as modules | yes |
| `export.py` | graphs, arrays and settings -> a folder, with its check | yes |
| `folder.py` | the format of that folder | no |
| `session.py` | one graph, run by an engine | no |
| `noise.py` | the noise that `torch.randn` draws from a seed | no |
| `policy.py` | `EnginePolicy`: both systems of an exported policy | no |
| `choice.py` | a folder and an engine -> the policy | no, but for `torch` |
"""
