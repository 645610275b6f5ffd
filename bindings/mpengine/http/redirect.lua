--- How a redirect changes a request.
local core = require "mpengine.core"

local redirect = {}

-- Headers of a body, which a GET does not have.
local OF_BODIES = { ["content-type"] = true, ["content-length"] = true, ["content-encoding"] = true,
    ["content-language"] = true, ["content-location"] = true, ["transfer-encoding"] = true }
-- Headers for the first host only.
local OF_HOSTS = { authorization = true, cookie = true, host = true }

local function without(lines, names)
    local left = {}
    for _, line in ipairs(lines) do
        local name = line:match "^[^:;]+":lower()
        if not names[name] then left[#left + 1] = line end
    end
    return left
end

local function origin(url)
    local scheme, host, port = core.url_parts(url)
    if not scheme then return url end
    return ("%s://%s:%s"):format(scheme, host:lower(), port or scheme == "https" and 443 or 80)
end

local function becomes_get(status, method)
    if status == 303 then return method ~= "HEAD" end
    return (status == 301 or status == 302) and method == "POST"
end

--- Turns the plan into that of the next request: a 303, and a POST's 301 and 302, is followed by a
--- GET; the others keep method and body. Headers for one host are not sent to another.
---@return boolean? ok
---@return string? why
function redirect.follow(plan, status, target)
    if becomes_get(status, plan.method) then
        plan.method, plan.body, plan.fed, plan.feed = "GET", nil, nil, nil
        plan.headers = without(plan.headers, OF_BODIES)
    elseif plan.fed then
        return nil, ("the redirect (%d) asks for the body again, which a function gave"):format(status)
    end
    if origin(target) ~= origin(plan.url) then
        plan.auth = nil
        plan.headers = without(plan.headers, OF_HOSTS)
    end
    plan.url = target
    return true
end

return redirect
