--- Text in JSON.
local json = {}

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

return json
