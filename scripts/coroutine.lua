-- Three URLs at once, in one process.
--   coroutine.lua [--patched] [URL ...]
-- Notice: all three requests are sent before the first answer arrives, and the answers are printed
-- as they arrive; a failure prints its reason and the others go on. With --patched the same is done
-- by LuaSocket's own socket.http, which blocks: after patch_all its waits suspend only the task.
local mp = require "mpengine"
local co = mp.co

local patched, urls = false, {}
for _, a in ipairs(arg or {}) do
  if a == "--patched" then patched = true else urls[#urls + 1] = a end
end
if #urls == 0 then
  urls = { "https://www.python.org/", "https://www.yahoo.com/", "https://github.com/" }
end

local get -- url -> body | nil, reason
if patched then
  mp.monkey.patch_all()
  local http = require "socket.http"
  function get(url)
    local body, status = http.request(url)
    if not body then return nil, status end
    return body
  end
else
  function get(url)
    local response, reason = mp.http.get(url, { timeout = 30 })
    if not response then return nil, reason end
    return response.body
  end
end

local function fetch(url)
  print("GET: " .. url)
  local body, reason = get(url)
  if body then
    print(("%d bytes received from %s"):format(#body, url))
  else
    print(("%s failed: %s"):format(url, reason))
  end
end

local tasks = {}
for i, url in ipairs(urls) do
  tasks[i] = co.spawn(fetch, url)
end
co.joinall(tasks)
print "done"
