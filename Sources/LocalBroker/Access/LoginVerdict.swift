import Protocol

/// What a client's user name rests on, to be looked at again when the files have changed.
enum ClientProof: Hashable, Sendable {
    /// Nothing: the client is anonymous, or an authenticator or its certificate vouches for it.
    case none
    /// A password that was right for this hash.
    case password(PasswordHash)
    /// A token of this key.
    case token(keyID: String)
}

/// What came of a client's credentials.
enum LoginVerdict: Sendable {
    case accepted(AcceptedClient, ClientProof)
    /// What the client is told, and what the log says.
    case refused(ReasonCode, String)

    static let anonymous = LoginVerdict.accepted(AcceptedClient(userName: nil), .none)
}
