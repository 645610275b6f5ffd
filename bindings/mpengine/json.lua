--- Text in JSON.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore

local json = {}

local MOST <const> = 10000 -- texts that are kept

local ESCAPES <const> = {
    ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\b"] = "\\b", ["\f"] = "\\f",
}

local function escape(c) return ESCAPES[c] or ("\\u%04x"):format(c:byte()) end

-- Every byte that is no UTF-8 becomes the replacement character.
local function repaired(s)
    local out, from = {}, 1
    while true do
        local _, wrong = utf8.len(s, from)
        if not wrong then break end
        out[#out + 1] = string.sub(s, from, wrong - 1)
        from = wrong + 1
    end
    out[#out + 1] = string.sub(s, from)
    return table.concat(out, "\u{FFFD}")
end

--- A string of JSON.
---@param s string any bytes
---@return string
function json.quote(s)
    return '"' .. repaired(s):gsub('[\0-\31"\\\127]', escape) .. '"'
end

local known, count = {}, 0

--- The same for texts that come again and again: those that were encoded before are kept, at most so many. What is no
--- UTF-8 is escaped, as in texts for people.
---@param s string any bytes
---@return string
function json.shown(s)
    local done = known[s]
    if done then return done end
    if count >= MOST then known, count = {}, 0 end
    done = json.quote(utf8.len(s) and s or core.escaped(s))
    known[s], count = done, count + 1
    return done
end

return json
