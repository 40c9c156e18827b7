"""For how long an app will have what a person allows it, in words for the consent page."""

from authz.endpoints.visits import Visit
from authz.login.launch import is_online
from authz.protocol.client_profiles import may_refresh
from authz.protocol.clients import BindingKind
from authz.settings import AuthorizationSettings


def duration(visit: Visit, scope: tuple[str, ...], settings: AuthorizationSettings) -> str:
    """Until when at most: that of a refresh token where the app gets one, else that of the access token."""
    client, lifetimes, language = visit.client, settings.lifetimes, visit.language
    asking = {"offline_access", "online_access"}
    bound = client.binding is not BindingKind.NONE or visit.interaction.dpop_jkt is not None
    stays = may_refresh(client, bound=bound, rotates=settings.rotate_refresh_tokens)
    if stays and is_online(scope):
        return language.plain("allow.until_sign_out", minutes=max(1, lifetimes.browser_session // 60))
    if stays and (asking & set(scope) or not asking & set(client.scope)):
        return language.plain("allow.until_ended", days=lifetimes.refresh_token // 86400)
    return language.plain("allow.minutes", minutes=max(1, lifetimes.access_token // 60))
