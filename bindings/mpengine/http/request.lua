--- A request as its handler has it. What costs something is found when it is first asked for.
local core = require "mpengine.core"
local server = require "mpengine.server"
local Headers = require "mpengine.http.headers"

---@class mpengine.http.Request
---@field method string
---@field path string decoded
---@field target string as it was sent
---@field query table<string, string|string[]> decoded; several of one name are a list
---@field headers table<string, string|string[]> by name in any case; a header of several lines is a list
---@field body string? nil when it streams
---@field peer string "ip:port"
local Request = { __name = "mpengine.http.Request" }

local methods = {}
Request.methods = methods
local found = {
    headers = function(self) return setmetatable(self.raw:headers(), Headers) end,
    query = function(self) return core.http_query(self.target) end,
    peer = function(self) return self.raw:peer() end,
}

function Request.__index(self, name)
    local method = methods[name]
    if method then return method end
    local find = found[name]
    if not find then return nil end
    local value = find(self)
    self[name] = value
    return value
end

function Request:__tostring()
    return ("mp.http.Request: %s %s"):format(self.method, self.target)
end

--- The end of the handler, however it came: an error is answered with 500, a stop with 503.
function Request.__close(self, err)
    local acceptor, raw = self.acceptor, self.raw
    acceptor.running[self.task] = nil
    if err == nil then return end
    self.task.name = self.method .. " " .. self.target -- for the report
    if not self.stopped then acceptor:count(server.FAILED, 1) end
    local is_open, is_answered = raw:is_open()
    if not is_open then return end
    if is_answered then
        raw:piece(false)
    elseif self.stopped then
        raw:answer(503, nil, "503 Service Unavailable\n", true)
    else
        raw:answer(500, nil, "500 Internal Server Error\n", true)
    end
end

--- The next n bytes of the body of a server with stream = true, fewer only at its end; without n what
--- has arrived. Suspends the task.
---@param n? integer
---@return string? bytes nil at the end
---@return string? reason why the rest is missing
function methods:read(n)
    local raw = self.raw
    if self.body then -- a request without a body does not stream
        local rest = self.body
        self.body = nil
        if rest ~= "" then return rest end
    end
    return raw:read(n)
end

--- Hands the connection over: f(ws) runs in this task with a WebSocket, whose end closes it. Its result
--- is what the handler returns. A request that asks for no WebSocket is answered with 426.
---@param f fun(ws: mpengine.http.WebSocket)
---@return integer? status
---@return table? headers
---@return string? body
function methods:websocket(f)
    return require "mpengine.http.websocket".hand_over(self, f)
end

--- An answer that is a file, or the part of it that is asked for; 404 when there is none.
---@param path string
---@param headers? table<string, string>
---@return integer status
---@return table headers
---@return table|string body
function methods:file(path, headers)
    return require "mpengine.http.file".answer(self, path, headers)
end

return Request
