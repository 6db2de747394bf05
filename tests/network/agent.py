"""A site's agent whose long polls are shorter than in life: ``agent.py HOME SECONDS``."""

import sys
import threading
from functools import partial
from pathlib import Path

from hospitium.engines.hub.site_loop import SiteLoop
from hospitium.operations import site_answering
from hospitium.operations.site_serving import serve_site
from hospitium.state.home import Home

if __name__ == "__main__":
    site_answering.SiteLoop = partial(SiteLoop, wait_s=int(sys.argv[2]))
    serve_site(Home(Path(sys.argv[1])), stop=threading.Event(), is_shielded=True)
