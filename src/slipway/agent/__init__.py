"""What stands on a target: releases, engines, proxy and one transaction; standard library, shipped as one file."""
